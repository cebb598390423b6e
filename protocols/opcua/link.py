"""One connection to one server: services that read, each bounded in time, errors sorted."""

import asyncio
import copy
import struct
from typing import Any, TypeVar

from asyncua import Client, ua
from asyncua.client.ua_client import UASocketProtocol
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from asyncua.ua.uaerrors import UaError, UaStatusCodeError

from gateway.core.clock import Clock
from gateway.core.errors import (
    LinkError,
    LinkLost,
    LinkRefused,
    LinkTimeout,
    PeerError,
)
from gateway.core.meter import SourceMeter
from gateway.core.source import SourceContext
from protocols.opcua.security import Ends
from protocols.opcua.settings import Settings
from protocols.reach import unreached

Answer = TypeVar("Answer")

UNREADABLE = (
    UaError,
    struct.error,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What the library raises for bytes that it cannot read."""

READ_ONLY = (
    ua.ReadRequest,
    ua.BrowseRequest,
    ua.BrowseNextRequest,
    ua.TranslateBrowsePathsToNodeIdsRequest,
    ua.CreateSubscriptionRequest,
    ua.DeleteSubscriptionsRequest,
    ua.CreateMonitoredItemsRequest,
    ua.DeleteMonitoredItemsRequest,
    ua.PublishRequest,
    ua.RepublishRequest,
    ua.TransferSubscriptionsRequest,
    ua.HistoryReadRequest,
)
"""Every service that this adapter calls. None of them changes a machine."""

_Code = ua.StatusCodes
GONE = frozenset(
    (
        _Code.BadSessionIdInvalid,
        _Code.BadSessionClosed,
        _Code.BadSessionNotActivated,
        _Code.BadSecureChannelClosed,
        _Code.BadSecureChannelIdInvalid,
        _Code.BadSecureChannelTokenUnknown,
        _Code.BadTcpSecureChannelUnknown,
        _Code.BadSubscriptionIdInvalid,
        _Code.BadNoSubscription,
        _Code.BadShutdown,
        _Code.BadServerHalted,
        _Code.BadConnectionClosed,
        _Code.BadCommunicationError,
        _Code.BadTcpInternalError,
        _Code.BadTimeout,
    )
)
"""Answers after which the link or session is of no more use."""

REFUSED = {
    _Code.BadIdentityTokenRejected: "the server does not accept this user; check its password",
    _Code.BadIdentityTokenInvalid: "the server cannot read the sign-in; check security_policy",
    _Code.BadUserAccessDenied: "the server denies this user; check its password and its rights",
    _Code.BadUserSignatureInvalid: "the server does not accept user_certificate; trust it there",
    _Code.BadCertificateUntrusted: "the server does not trust the gateway's certificate; "
    "accept it on the server (its list of rejected certificates)",
    _Code.BadSecurityChecksFailed: "the server refuses the gateway's certificate; "
    "accept it on the server (its list of rejected certificates)",
    _Code.BadCertificateUriInvalid: "the ApplicationURI and the gateway's certificate differ; "
    "remove application_uri, or the certificate so that a new one is made",
    _Code.BadCertificateTimeInvalid: "a certificate is outside its dates; check both clocks",
    _Code.BadCertificateInvalid: "the server cannot use the gateway's certificate",
    _Code.BadSecurityPolicyRejected: "the server does not offer this security_policy",
    _Code.BadSecurityModeRejected: "the server does not offer this security_mode",
    _Code.BadSecurityModeInsufficient: "the server wants a higher security_mode",
    _Code.BadTooManySessions: "the server has no session left; end one of its other clients",
    _Code.BadTcpEndpointUrlInvalid: "the server does not serve this url; check its path",
}
"""Answers that a person must act on, with what to do."""


class Link:
    """An activated session: LinkError when it is gone, PeerError when one request is refused."""

    def __init__(
        self, client: Client, config: Settings, context: SourceContext, ends: Ends
    ) -> None:
        protocol = client.uaclient.protocol
        assert protocol is not None
        self.client = client
        self.ends = ends
        self._protocol: UASocketProtocol = protocol
        self._timeout_s = config.timeout_s
        self._clock: Clock = context.clock
        self._meter: SourceMeter = context.meter
        self._tap = context.tap

    async def call(self, request: Any, answer: type[Answer]) -> Answer:
        """Send one request and decode its answer, whose service result was Good."""
        data = await self.exchange(request)
        try:
            return struct_from_binary(answer, data)
        except UNREADABLE as error:
            self._meter.errors["decode"] += 1
            name = answer.__name__
            raise LinkLost(f"the server's {name} cannot be read: {error}") from error

    async def exchange(self, request: Any, *, waits: bool = True) -> Any:
        """Send one request; give the undecoded answer. `waits=False` sets no time limit."""
        assert isinstance(request, READ_ONLY), type(request).__name__
        self._meter.requests += 1
        if self._tap.open:
            self._show(request)
        began_ns = self._clock.mono_ns()
        try:
            data = await self._protocol.send_request(
                request, timeout=self._timeout_s if waits else 0
            )
        except TimeoutError:
            self._meter.errors["timeout"] += 1
            name = type(request).__name__
            raise LinkTimeout(f"no answer to {name} within {self._timeout_s:g} s") from None
        except (UaError, OSError, ValueError) as error:
            raise link_error(error) from error
        if waits:
            self._meter.observe_latency((self._clock.mono_ns() - began_ns) / 1e9)
        if self._tap.open:
            self._tap.received(data.copy().read(len(data)), f"answer to {type(request).__name__}")
        return data

    def _show(self, request: Any) -> None:
        """Let the tap have a request, without the session's token: who holds that is signed in."""
        shown = copy.copy(request)
        shown.RequestHeader = copy.copy(request.RequestHeader)
        shown.RequestHeader.AuthenticationToken = ua.NodeId()
        self._tap.sent(struct_to_binary(shown), type(request).__name__)

    async def keep_alive(self, interval_s: float) -> None:
        """Ask for the server's state now and then: polled or idle, a link must prove itself."""
        request = ua.ReadRequest()
        node = ua.NodeId(ua.Int32(ua.ObjectIds.Server_ServerStatus_State))
        request.Parameters.NodesToRead = [
            ua.ReadValueId(NodeId=node, AttributeId=ua.AttributeIds.Value)
        ]
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.call(request, ua.ReadResponse)
            except PeerError as error:
                raise LinkLost(f"the server does not tell its state: {error}") from error

    async def renew_channel(self) -> None:
        """Renew the secure channel's keys for as long as the link lives."""
        while True:
            await asyncio.sleep(0.75 * self.client.secure_channel_timeout / 1000)
            try:
                await self.client.open_secure_channel(renew=True)
            except TimeoutError:
                raise LinkTimeout("the server did not renew the secure channel in time") from None
            except (OSError, *UNREADABLE) as error:
                raise LinkLost(f"the secure channel was not renewed: {error}") from error
            self.client.uaclient.revolve_security_token()


def link_error(error: Exception) -> LinkError | PeerError:
    """What an error of the library means to us."""
    if isinstance(error, UaStatusCodeError):
        name = code_name(error.code)
        if error.code in REFUSED:
            return LinkRefused(f"{name}: {REFUSED[error.code]}")
        if error.code in GONE:
            return LinkLost(f"the server answered {name}")
        return PeerError(name, code=error.code)
    text = unreached(error) if isinstance(error, OSError) else str(error) or type(error).__name__
    if text.startswith(("No matching endpoints", "Server certificate mismatch")):
        return LinkRefused(f"the server does not offer what is configured: {text}")
    return LinkLost(text)


def code_name(code: int) -> str:
    """A status code's name, as an operator finds it in a manual."""
    return str(ua.StatusCode(ua.UInt32(code)).name)
