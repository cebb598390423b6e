"""Asks a running gateway over its REST interface; where it refuses, says why and ends."""

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import click

TIMEOUT_S = 30.0


def options(command: Callable[..., object]) -> Callable[..., object]:
    """Give a command the options that say which gateway, and who asks."""
    token_file = click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        help="File that holds the token; else it is taken from FOREWARN_TOKEN.",
    )
    url = click.option(
        "--url", default="http://127.0.0.1:8080", show_default=True, envvar="FOREWARN_URL"
    )
    return url(token_file(command))


@dataclass(frozen=True, slots=True)
class Gateway:
    """The REST interface of one gateway.

    Attributes:
        command: That asks, for messages.
        url: Without a slash at its end.
        token_file: Holds what `forewarn user token` printed; None for FOREWARN_TOKEN.
    """

    command: str
    url: str
    token_file: Path | None

    @classmethod
    def at(cls, command: str, url: str, token_file: Path | None) -> "Gateway":
        """The gateway at a URL.

        Raises:
            click.UsageError: No such URL.
        """
        if not url.startswith(("http://", "https://")):
            raise click.UsageError(f"--url: must begin with http:// or https://, was {url!r}")
        return cls(command, url.rstrip("/"), token_file)

    def _token(self) -> str:
        try:
            token = self.token_file.read_text("utf-8") if self.token_file else ""
        except OSError as error:
            raise click.UsageError(f"--token-file: cannot be read ({error})") from None
        token = (token if self.token_file else os.environ.get("FOREWARN_TOKEN", "")).strip()
        if not token:
            raise click.UsageError(
                "needs a token, in FOREWARN_TOKEN or --token-file; "
                "`forewarn user token CONFIG NAME --role operator` makes one"
            )
        return token

    def ask(self, path: str, body: object = None) -> bytes:
        """One request. Prints why not and ends the command where it is refused.

        Raises:
            click.UsageError: No such token.
        """
        request = Request(  # noqa: S310 - the scheme is checked where the option is read
            f"{self.url}/api/v1/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                "Authorization": f"Bearer {self._token()}",
            },
        )
        try:
            with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                return bytes(answer.read())
        except HTTPError as error:
            text = error.read(10_000).decode("utf-8", "replace")
            with suppress(ValueError, KeyError, TypeError):
                text = str(json.loads(text)["detail"])
            click.echo(f"forewarn {self.command}: {text}", err=True)
            sys.exit(1 if error.code == 409 else 2)
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            click.echo(
                f"forewarn {self.command}: {self.url} does not answer ({reason}); "
                "is the gateway running?",
                err=True,
            )
            sys.exit(2)
