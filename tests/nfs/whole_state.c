/*
 * Lets User-Mode Linux run on processors whose register state is larger than it knows (Linux 6.1 knows 2,696 bytes;
 * with AMX there are 11,008). It sets a process's state with PTRACE_SETREGSET, which takes the whole of it or nothing:
 * "ptrace set fp regs failed, errno = 14". Here what it gives is completed with the rest as it is.
 * Fixed in Linux 6.13 (um: switch to regset API and depend on XSTATE). To be loaded with LD_PRELOAD.
 */
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define LARGEST_STATE 65536

static long set_whole_state(pid_t pid, const struct iovec *given)
{
	static char state[LARGEST_STATE];
	struct iovec whole = {state, sizeof state};

	if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &whole))
		return -1;
	memcpy(state, given->iov_base, given->iov_len < whole.iov_len ? given->iov_len : whole.iov_len);
	return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &whole);
}

/* Like the C library's: what a request peeks at is returned, not stored. */
long ptrace(enum __ptrace_request request, ...)
{
	va_list arguments;
	long pid, address, data, peeked;

	va_start(arguments, request);
	pid = va_arg(arguments, long);
	address = va_arg(arguments, long);
	data = va_arg(arguments, long);
	va_end(arguments);

	switch (request) {
	case PTRACE_SETREGSET:
		if (address == NT_X86_XSTATE)
			return set_whole_state((pid_t)pid, (const struct iovec *)data);
		break;
	case PTRACE_PEEKTEXT:
	case PTRACE_PEEKDATA:
	case PTRACE_PEEKUSER:
		if (syscall(SYS_ptrace, request, (pid_t)pid, address, &peeked))
			return -1;
		errno = 0;
		return peeked;
	default:
		break;
	}
	return syscall(SYS_ptrace, request, (pid_t)pid, address, data);
}
