"""Certificates of servers that the tests start, by an authority that only the tests trust."""

from pathlib import Path

import trustme


def certify(host: str, server: Path, authority: Path, *more_hosts: str) -> tuple[Path, Path]:
    """Write a certificate for hosts (.pem), its key (.key), and who signed it (`authority`), unless that is there."""
    signed = _authority(authority).issue_cert(host, *more_hosts)
    certificate, key = server.with_suffix(".pem"), server.with_suffix(".key")
    signed.cert_chain_pems[0].write_to_path(certificate)
    key.touch(mode=0o600)
    signed.private_key_pem.write_to_path(key)
    return certificate, key


def _authority(file: Path) -> trustme.CA:
    key = file.with_suffix(".key")
    if file.exists():
        return trustme.CA.from_pem(file.read_bytes(), key.read_bytes())
    authority = trustme.CA()
    authority.cert_pem.write_to_path(file)
    authority.private_key_pem.write_to_path(key)
    return authority
