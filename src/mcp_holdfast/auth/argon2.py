"""Hash what people or operators choose, so that whoever reads the hash cannot tell it."""

import os

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id


def hashed(secret: str) -> str:
    """The hash of a secret with a new salt and all parameters in it, as a PHC string."""
    # OWASP's password storage recommendation for Argon2id: 19 MiB, 2 passes, 1 lane.
    argon2 = Argon2id(salt=os.urandom(16), length=32, iterations=2, lanes=1, memory_cost=19 * 1024)
    return argon2.derive_phc_encoded(secret.encode())


def matches(secret: str, encoded: str) -> bool:
    """Whether a hash is the one of this secret; takes some tens of milliseconds of a processor, on purpose."""
    try:
        Argon2id.verify_phc_encoded(secret.encode(), encoded)
    except InvalidKey:
        return False
    return True
