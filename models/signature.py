"""The Ed25519 signature of a manifest, which covers the bundle: it holds every member's sha256."""

import json
from collections.abc import Collection

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from models.errors import BundleError

SIGNED_AS = b"forewarn bundle manifest 1\n"
"""Prefix of what is signed, so that a key used elsewhere signs nothing that reads as a bundle."""


def sign(manifest: bytes, key: Ed25519PrivateKey) -> bytes:
    """The content of `signature.json`."""
    held = {
        "algorithm": "Ed25519",
        "public_key": key.public_key().public_bytes_raw().hex(),
        "signature": key.sign(SIGNED_AS + manifest).hex(),
    }
    return json.dumps(held).encode()


def verify(
    manifest: bytes, signature: bytes | None, trusted: Collection[Ed25519PublicKey]
) -> str | None:
    """The signer's public key, hex; None where unsigned. A wrong signature is never ignored.

    Args:
        manifest: The bytes of `manifest.json`.
        signature: The bytes of `signature.json`; None where there is none.
        trusted: Where there are any, one of them must have signed.

    Raises:
        BundleError: The signature cannot be read, does not fit, or is by nobody in `trusted`.
    """
    signer = None if signature is None else _signer(manifest, signature)
    if trusted and signer not in {key.public_bytes_raw().hex() for key in trusted}:
        was = "unsigned" if signer is None else f"signed by {signer[:16]}…"
        raise BundleError(
            f"signature: must be by a trusted key, was {was}; sign it with `forewarn model sign`, "
            "or add the key to the trusted ones"
        )
    return signer


def _signer(manifest: bytes, signature: bytes) -> str:
    try:
        held = json.loads(signature)
        if held["algorithm"] != "Ed25519":
            raise BundleError(f"signature: algorithm must be Ed25519, was {held['algorithm']!r}")
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(held["public_key"]))
        key.verify(bytes.fromhex(held["signature"]), SIGNED_AS + manifest)
    except InvalidSignature as error:
        raise BundleError("signature: does not fit the manifest; the bundle was altered") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"signature: cannot be read ({error})") from error
    return key.public_bytes_raw().hex()
