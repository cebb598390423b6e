"""OPC UA security against a real server: what is let in, what is refused, and what is said."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Client, ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.crypto.validator import CertificateValidator, CertificateValidatorOptions
from asyncua.server.user_managers import UserManager
from asyncua.ua.ua_binary import nodeid_to_binary
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from gateway.cli import group
from gateway.core.alarm import Priority
from gateway.core.batch import Batch
from gateway.core.channel import Channel, WhenFull
from gateway.core.errors import LinkRefused
from gateway.pipeline.supervise import Supervisor
from protocols.opcua import Config
from protocols.opcua.certificates import (
    OWN_NAME,
    check_server,
    fingerprint,
    own_identity,
    pin,
    read_certificate,
)
from protocols.opcua.expiry import expiry

from ..conformance import bench
from ..eventually import eventually
from ..sim.proxy import proxy
from .opcua_plant import Plant, plant, signal, source

NOW = datetime.now(UTC)
SERVER_URI = "urn:test:server"
POLICIES = ("Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss")
MODES = ("Sign", "SignAndEncrypt")
TYPES = [
    ua.SecurityPolicyType[f"{policy.replace('_', '')}_{mode}"]
    for policy in POLICIES
    for mode in MODES
]


class Users(UserManager):
    """Knows one user by password, and one by certificate."""

    def __init__(self, certificate: bytes = b"") -> None:
        self.certificate = certificate

    def get_user(
        self, iserver: object, username: str | None = None, password: str | None = None,
        certificate: Any = None,
    ) -> User | None:  # fmt: skip
        if username is not None:
            known = (username, password) == ("press", "s3cret")
            return User(role=UserRole.User, name=username) if known else None
        if self.certificate:
            return User(role=UserRole.User) if certificate == self.certificate else None
        return User(role=UserRole.User)


@dataclass(frozen=True)
class Secure:
    """A plant that offers every policy and mode that is any good, and nothing open."""

    plant: Plant
    certificate: x509.Certificate

    @property
    def url(self) -> str:
        return self.plant.url

    def let_in(self, users: Users) -> None:
        self.plant.server.iserver.user_manager = users


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secure]:
    identity = own_identity(tmp_path_factory.mktemp("server"), "server", SERVER_URI, NOW)
    async with plant(identity=identity, types=TYPES) as made:
        # It checks that a client's certificate holds the ApplicationURI that the client says.
        made.server.set_certificate_validator(
            CertificateValidator(
                CertificateValidatorOptions.BASIC_VALIDATION
                | CertificateValidatorOptions.PEER_CLIENT
            )
        )
        await made.add("speed", 1.5)
        yield Secure(made, identity.certificate)


@pytest_asyncio.fixture(loop_scope="module")
async def made(server: Secure) -> Secure:
    server.let_in(Users())
    return server


async def first_value(config: Config, folder: Path) -> float:
    world = bench(config.id, "opcua", folder)
    async with asyncio.timeout(30), config.open(world.context) as session:
        batch = await session.read()
    assert isinstance(batch, Batch)
    return float(batch.value[0])


@pytest.mark.asyncio(loop_scope="module")
async def test_every_policy_and_mode_after_trust_and_none_before(
    made: Secure, tmp_path: Path
) -> None:
    ours = tmp_path / "ours"
    config = source(made.url, signal("speed"), security_policy="Basic256Sha256")
    with pytest.raises(LinkRefused, match=r"not trusted.*forewarn trust opc.tcp") as refused:
        await first_value(config, ours)
    certificate = made.certificate
    assert fingerprint(certificate) in str(refused.value)
    assert len(list((ours / "rejected").iterdir())) == 1
    pin(certificate, ours / "trusted")
    for policy in POLICIES:
        for mode in MODES:
            secure = {"security_policy": policy, "security_mode": mode}
            assert await first_value(source(made.url, signal("speed"), **secure), ours) == 1.5
    with pytest.raises(LinkRefused, match="does not offer"):
        await first_value(source(made.url, signal("speed")), ours)
    # An impostor: the certificate that we trust is not the one that the server has.
    elsewhere = tmp_path / "elsewhere"
    known = own_identity(tmp_path / "known", "server", SERVER_URI, NOW)
    pin(known.certificate, elsewhere / "trusted")
    with pytest.raises(LinkRefused, match="not trusted"):
        await first_value(config, elsewhere)
    own = read_certificate(ours / OWN_NAME)
    assert own.not_valid_after_utc > NOW + timedelta(days=4 * 365)
    assert (ours / "own.key.pem").stat().st_mode & 0o077 == 0


@pytest.mark.asyncio(loop_scope="module")
async def test_a_link_that_comes_back_is_as_secure_as_before(
    made: Secure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, str]] = []
    activate = Client.activate_session

    async def watch(client: Client, *args: Any, **more: Any) -> Any:
        policy = client.security_policy
        opened.append((policy.URI.rpartition("#")[2], policy.Mode.name))
        return await activate(client, *args, **more)

    monkeypatch.setattr(Client, "activate_session", watch)
    pin(made.certificate, tmp_path / "trusted")
    port = made.plant.port
    async with proxy(("127.0.0.1", port)) as relay:
        url = f"opc.tcp://127.0.0.1:{relay.port}/plant"
        config = source(url, signal("speed"), security_policy="Aes256_Sha256_RsaPss")
        world = bench("p1", "opcua", tmp_path)
        channel = Channel(samples_max=1000, when_full=WhenFull.BLOCK)
        task = asyncio.create_task(Supervisor(config, world.context, channel).run())
        try:
            for i in range(3):
                await eventually(lambda i=i: world.meter.connects > i)  # type: ignore[misc]
                relay.cut(reset=i == 0)
            await eventually(lambda: len(opened) >= 4)
        finally:
            task.cancel()
            await asyncio.wait([task])
    assert set(opened) == {("Aes256_Sha256_RsaPss", "SignAndEncrypt")}


@pytest.mark.asyncio(loop_scope="module")
async def test_less_security_is_never_taken_instead(tmp_path: Path) -> None:
    async with plant() as made:
        await made.add("speed", 1.5)
        config = source(made.url, signal("speed"), security_policy="Aes256_Sha256_RsaPss")
        with pytest.raises(LinkRefused, match=r"does not offer Aes256.*it offers None"):
            await first_value(config, tmp_path)


@pytest.mark.asyncio(loop_scope="module")
async def test_user_and_password(
    made: Secure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FW_GOOD", "s3cret")
    monkeypatch.setenv("FW_BAD", "wrong")
    pin(made.certificate, tmp_path / "trusted")
    for policy, mode in (
        ("Basic256Sha256", "Sign"),
        ("Aes256_Sha256_RsaPss", "SignAndEncrypt"),
    ):
        settings = {"security_policy": policy, "security_mode": mode, "username": "press"}
        good = source(made.url, signal("speed"), password="env:FW_GOOD", **settings)
        assert await first_value(good, tmp_path) == 1.5
        bad = source(made.url, signal("speed"), password="env:FW_BAD", **settings)
        with pytest.raises(LinkRefused, match="check its password"):
            await first_value(bad, tmp_path)
    missing = source(made.url, signal("speed"), password="env:FW_NOT_SET", **settings)
    with pytest.raises(LinkRefused, match="FW_NOT_SET"):
        await first_value(missing, tmp_path)


@pytest.mark.asyncio(loop_scope="module")
async def test_whoever_looks_at_the_wire_sees_no_secret(
    made: Secure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FW_GOOD", "s3cret")
    pin(made.certificate, tmp_path / "trusted")
    good = source(
        made.url,
        signal("speed"),
        password="env:FW_GOOD",
        security_policy="Basic256Sha256",
        security_mode="SignAndEncrypt",
        username="press",
    )
    world = bench("press", "opcua", tmp_path)
    tap = world.context.tap
    tap.start(world.context.clock, 60)
    tokens: list[bytes] = []
    sign_in = Client.activate_session

    async def watched(client: Client, *args: Any, **more: Any) -> Any:
        result = await sign_in(client, *args, **more)
        tokens.append(bytes(nodeid_to_binary(client.uaclient.protocol.authentication_token)))  # type: ignore[union-attr]
        return result

    monkeypatch.setattr(Client, "activate_session", watched)
    async with good.open(world.context) as session:
        await session.read()
    shown = b"".join(frame.data for frame in tap.frames())
    notes = {frame.note for frame in tap.frames()}
    assert "CreateMonitoredItemsRequest" in notes
    assert "answer to CreateMonitoredItemsRequest" in notes
    assert not any("Activate" in note or "CreateSession" in note for note in notes)
    assert tokens
    assert b"s3cret" not in shown
    assert tokens[0] not in shown


@pytest.mark.asyncio(loop_scope="module")
async def test_user_certificate(made: Secure, tmp_path: Path) -> None:
    user = own_identity(tmp_path / "user", "user", "urn:test:user", NOW)
    other = own_identity(tmp_path / "other", "user", "urn:test:other", NOW)
    (tmp_path / "user.der").write_bytes(user.certificate_der)
    (tmp_path / "other.der").write_bytes(other.certificate_der)
    made.let_in(Users(user.certificate_der))
    pin(made.certificate, tmp_path / "trusted")

    def config(name: str) -> Config:
        return source(
            made.url,
            signal("speed"),
            security_policy="Basic256Sha256",
            user_certificate=f"{name}.der",
            user_key=f"file:{tmp_path}/{name}/own.key.pem",
        )

    assert await first_value(config("user"), tmp_path) == 1.5
    with pytest.raises(LinkRefused):
        await first_value(config("other"), tmp_path)


@pytest.mark.asyncio(loop_scope="module")
async def test_trust_shows_and_pins(made: Secure, tmp_path: Path) -> None:
    (tmp_path / "forewarn.toml").write_text(
        f'[gateway]\nid = "g"\n[[source]]\nkind = "opcua"\nid = "press 1"\nurl = "{made.url}"\n'
        f'signals = [{{asset = "pump", signal = "speed", address = "i=2267"}}]\n'
    )

    async def trust(*arguments: str, answer: str = "") -> Any:
        return await asyncio.to_thread(
            CliRunner().invoke, group, ["trust", made.url, *arguments], answer
        )

    print_of_server = fingerprint(made.certificate)
    config = ("--config", str(tmp_path / "forewarn.toml"))
    no = await trust(*config, answer="n\n")
    assert no.exit_code == 1
    assert print_of_server in no.output
    assert f"does not connect to {made.url} until this certificate is" in no.stderr
    assert "run this again and answer y" in no.stderr
    folder = tmp_path / "data" / "sources" / "press_1"
    assert not (folder / "trusted").exists()
    assert (folder / OWN_NAME).exists()
    yes = await trust(*config, "--yes")
    assert yes.exit_code == 0, yes.output
    assert len(list((folder / "trusted").iterdir())) == 1
    table = source(made.url, signal("speed"), security_policy="Basic256Sha256")
    assert await first_value(table, folder) == 1.5
    # The tools that look at a configuration use what the gateway keeps, and leave it as it is.
    kept = {path.name for path in folder.rglob("*")}
    for command in (["check", "--connect", "--json"], ["doctor", "--json"]):
        result: Any = await asyncio.to_thread(
            CliRunner().invoke, group, [command[0], str(tmp_path / "forewarn.toml"), *command[1:]]
        )
        assert "not trusted" not in result.output
        if command[0] == "doctor":
            checks = {row["check"]: row for row in json.loads(result.output)}
            assert checks["source press 1"]["state"] == "ok", result.output
        else:
            (read,) = json.loads(result.output)["read"]
            assert not read["error"], result.output
    assert {path.name for path in folder.rglob("*")} == kept


def test_own_certificate_is_kept_until_it_is_of_no_use(tmp_path: Path) -> None:
    first = own_identity(tmp_path, "p", "", NOW)
    assert first.application_uri.endswith(":forewarn:p")
    assert own_identity(tmp_path, "p", "", NOW) == first
    assert own_identity(tmp_path, "p", "", NOW + timedelta(days=6 * 365)) != first
    other = own_identity(tmp_path, "p", "urn:my:gateway", NOW)
    assert other.application_uri == "urn:my:gateway"


def issue(
    folder: Path, uri: str, *, days: int = 30
) -> tuple[x509.Certificate, x509.CertificateRevocationList]:
    """A server certificate that a plant's authority in `folder` issued, and its revocation."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Plant CA")])
    authority = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=400))
        .not_valid_after(NOW + timedelta(days=400))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True)
    (folder / "ca.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    server_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "PLC")]))
        .issuer_name(name)
        .public_key(server_key.public_key())
        .serial_number(77)
        .not_valid_before(NOW - timedelta(days=300))
        .not_valid_after(NOW + timedelta(days=days))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    revoked = x509.RevokedCertificateBuilder().serial_number(77).revocation_date(NOW).build()
    listed = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name)
        .last_update(NOW)
        .next_update(NOW + timedelta(days=1))
        .add_revoked_certificate(revoked)
        .sign(key, hashes.SHA256())
    )
    return certificate, listed


def check(certificate: x509.Certificate, folder: Path, uri: str = SERVER_URI) -> None:
    check_server(certificate, url="opc.tcp://plc", server_uri=uri, folder=folder, now=NOW)


def test_an_authority_vouches_for_its_servers_until_it_revokes_them(tmp_path: Path) -> None:
    certificate, listed = issue(tmp_path / "trusted", SERVER_URI)
    check(certificate, tmp_path / "trusted")
    with pytest.raises(LinkRefused, match="calls itself urn:else"):
        check(certificate, tmp_path / "trusted", "urn:else")
    with pytest.raises(LinkRefused, match="not trusted"):
        check(certificate, tmp_path / "elsewhere")
    (tmp_path / "trusted" / "ca.crl").write_bytes(listed.public_bytes(serialization.Encoding.DER))
    with pytest.raises(LinkRefused, match="revoked"):
        check(certificate, tmp_path / "trusted")


def test_a_certificate_that_has_ended_is_refused_however_trusted(tmp_path: Path) -> None:
    certificate, _ = issue(tmp_path / "trusted", SERVER_URI, days=-1)
    pin(certificate, tmp_path / "trusted")
    with pytest.raises(LinkRefused, match="renew it"):
        check(certificate, tmp_path / "trusted")


@pytest.mark.parametrize(
    ("days", "priority"),
    [(31, None), (30, Priority.LOW), (8, Priority.LOW), (7, Priority.MEDIUM), (1, Priority.HIGH),
     (-3, Priority.HIGH)],
)  # fmt: skip
def test_expiry_is_warned_30_7_and_1_days_ahead(days: int, priority: Priority | None) -> None:
    t_ns = round(NOW.timestamp() * 1e9)
    condition = expiry("press-1", "server", NOW + timedelta(days=days), t_ns)
    assert condition.alarm == "certificate.server.press-1"
    assert condition.active == (priority is not None)
    if priority is not None:
        assert condition.priority == priority
        assert "press-1" in str(condition.text)


@pytest.mark.asyncio(loop_scope="module")
async def test_expiry_is_reported_when_the_link_opens(made: Secure, tmp_path: Path) -> None:
    pin(made.certificate, tmp_path / "trusted")
    config = source(made.url, signal("speed"), security_policy="Basic256Sha256")
    world = bench("p1", "opcua", tmp_path)
    async with config.open(world.context) as session:
        await session.read()
    assert {c.alarm: c.active for c in world.reported} == {
        "certificate.gateway.p1": False,
        "certificate.server.p1": False,
    }


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"username": "u", "password": "env:P"}, "can be read by anyone"),
        ({"security_policy": "Basic256"}, "Basic256Sha256"),
        ({"security_policy": "Basic128Rsa15"}, "Basic256Sha256"),
        ({"password": "hunter2"}, "reference"),
        ({"username": "u"}, "needs password"),
        ({"user_certificate": "u.der", "user_key": "env:K"}, "other than"),
        ({"certificate": "c.der"}, "belong together"),
    ],
)
def test_settings_that_would_be_insecure_are_refused(settings: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        source("opc.tcp://192.0.2.1:4840", signal("speed"), **settings)
