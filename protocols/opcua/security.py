"""Makes a client secure before it connects, exactly as configured or not at all."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from asyncua import Client, ua
from asyncua.crypto import security_policies as policies
from asyncua.crypto.uacrypto import CertProperties
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from gateway.core.errors import ConfigError, LinkRefused
from gateway.core.source import SourceContext
from protocols.opcua.certificates import (
    REJECTED_NAME,
    Identity,
    check_server,
    first_certificate,
    given_identity,
    own_identity,
    pin,
    read_certificate,
    utc,
)
from protocols.opcua.discover import endpoints_of
from protocols.opcua.settings import Settings

POLICIES: dict[str, type[policies.SecurityPolicy]] = {
    "Basic256Sha256": policies.SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": policies.SecurityPolicyAes256Sha256RsaPss,
}
"""What is offered. Basic128Rsa15 and Basic256 are broken, and left out on purpose."""
NONE_URI = policies.SecurityPolicyNone.URI
STRONG_URIS = frozenset(policy.URI for policy in POLICIES.values())


@dataclass(frozen=True, slots=True)
class Ends:
    """When the certificates of a link end; None where it uses none."""

    gateway: datetime | None = None
    server: datetime | None = None

    def known(self) -> dict[str, datetime]:
        """Those that there are."""
        ends = {"gateway": self.gateway, "server": self.server}
        return {name: end for name, end in ends.items() if end is not None}


async def secure(client: Client, config: Settings, context: SourceContext) -> Ends:
    """Give the client its certificate and the server's, once the server's is trusted.

    Raises:
        LinkRefused: The server does not offer what is configured, or is not trusted.
        ConfigError: A file of the configuration cannot be used.
    """
    if config.user_certificate:
        client.user_certificate = read_certificate(_path(config.user_certificate, context))
        assert config.user_key is not None
        client.user_private_key = _private_key(config.user_key.reveal(), "user_key")
    if config.security_policy == "None":
        return Ends()
    identity = await asyncio.to_thread(identity_of, config, context)
    client.application_uri = identity.application_uri
    policy = POLICIES[config.security_policy]
    mode = ua.MessageSecurityMode[config.security_mode]
    endpoints = await endpoints_of(config.url, timeout_s=config.timeout_s)
    endpoint = choose(endpoints, policy.URI, mode, config)
    server = first_certificate(bytes(endpoint.ServerCertificate or b""))
    now = utc(context.clock.wall_ns())
    try:
        check_server(
            server,
            url=config.url,
            server_uri=str(endpoint.Server.ApplicationUri),
            folder=trust_folder(config, context.data_dir),
            now=now,
        )
    except LinkRefused:
        pin(server, context.data_dir / REJECTED_NAME)
        raise
    await client.set_security(
        policy,
        CertProperties(identity.certificate_der, extension="der"),
        CertProperties(identity.key_pem, extension="pem"),
        server_certificate=CertProperties(
            server.public_bytes(serialization.Encoding.DER), extension="der"
        ),
        mode=mode,
    )
    return Ends(identity.certificate.not_valid_after_utc, server.not_valid_after_utc)


def choose(
    endpoints: list[ua.EndpointDescription],
    policy_uri: str,
    mode: ua.MessageSecurityMode,
    config: Settings,
) -> ua.EndpointDescription:
    """The endpoint with exactly this policy and mode.

    Raises:
        LinkRefused: There is none; says what there is. Nothing weaker is ever taken instead.
    """
    for endpoint in endpoints:
        if endpoint.SecurityPolicyUri == policy_uri and endpoint.SecurityMode == mode:
            return endpoint
    raise LinkRefused(
        f"{config.url}: does not offer {config.security_policy} with {config.security_mode}; "
        f"it offers {', '.join(offered(endpoints)) or 'nothing'}"
    )


def offered(endpoints: list[ua.EndpointDescription]) -> list[str]:
    """Each policy and mode that a server offers, in words."""
    found = {
        f"{str(endpoint.SecurityPolicyUri).rpartition('#')[2]}"
        + ("" if endpoint.SecurityMode.name == "None_" else f" {endpoint.SecurityMode.name}")
        for endpoint in endpoints
    }
    return sorted(found)


def check_password(client: Client, config: Settings) -> None:
    """Refuse to send a password that the wire would show.

    Raises:
        LinkRefused: The server wants it in clear, or under a broken policy.
    """
    if not config.username or config.password_in_clear:
        return
    uri = client.server_policy(ua.UserTokenType.UserName).SecurityPolicyUri
    if uri == NONE_URI and config.security_mode == "SignAndEncrypt":
        return  # The channel hides it.
    if uri not in STRONG_URIS:
        raise LinkRefused(
            f"{config.url}: the server wants the password under {uri}, which can be read on the "
            'wire; use security_mode = "SignAndEncrypt"'
        )


def identity_of(config: Settings, context: SourceContext) -> Identity:
    """The certificate that the configuration gives, or our own."""
    if config.certificate:
        assert config.certificate_key is not None
        key_pem = config.certificate_key.reveal().encode()
        _private_key(key_pem.decode(), "certificate_key")
        path = _path(config.certificate, context)
        return given_identity(path, key_pem, config.application_uri)
    now = utc(context.clock.wall_ns())
    return own_identity(context.data_dir, config.id, config.application_uri, now)


def trust_folder(config: Settings, data_dir: Path) -> Path:
    """Where the source's trusted certificates lie."""
    return data_dir / config.trust_dir


def _path(written: str, context: SourceContext) -> Path:
    """A path of the configuration; a relative one starts in the source's data folder."""
    return context.data_dir / written


def _private_key(pem: str, name: str) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{name}: must be an unencrypted PEM private key: {error}") from error
