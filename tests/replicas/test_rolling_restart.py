"""Every replica is restarted, one after the other, while clients sign in once, call, refresh, and are asked back."""

import asyncio

from harness.traffic import Traffic
from replicas.conftest import SignIn, Site, Tell
from replicas.conversations import held

CONVERSATIONS = 4
CALLERS = 2


async def test_a_rolling_restart_costs_no_sign_in_and_no_call_hangs(
    new_site: Site, sign_in: SignIn, tell: Tell
) -> None:
    clients = [sign_in(new_site.url) for _ in range(CONVERSATIONS)]
    callers = [sign_in(new_site.url) for _ in range(CALLERS)]
    async with held(clients, new_site.url) as conversations:
        await conversations.all_go_on()
        with Traffic(callers).flowing() as traffic:
            for replica in new_site.replicas:
                replica.terminate()
                assert await asyncio.to_thread(replica.wait_for_exit) == 0
                await conversations.all_go_on()
                await asyncio.to_thread(replica.start)
                await conversations.all_go_on()
    statuses = {
        status: count for status, count in new_site.balancer.statuses().items() if status >= "400" or status < "0"
    }
    tell(f"conversations: {dict(conversations.seen)}, other errors: {len(conversations.unclear)}")
    tell(f"calls and refreshes: {dict(traffic.answers)}, of all answers of HAProxy: {statuses}")
    assert conversations.unclear == []
    assert set(traffic.answers) <= {200, 502}
