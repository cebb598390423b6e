"""`forewarn user`: the people and tokens that may use the console."""

import getpass
import json
import sys
from collections.abc import Callable
from contextlib import closing
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gateway.console.vault import Vault

ROLES = click.Choice(["viewer", "operator", "engineer"])


@click.group()
def command() -> None:
    """Manage the people and tokens that may use the console.

    Works on the data directory of CONFIG, whether the gateway runs or not; a running one sees
    changes at once. Passwords are asked for, or read from standard input where it is no terminal.

    \b
    Examples:
      forewarn user add forewarn.toml eva --role engineer
      forewarn user token forewarn.toml mes --role viewer --days 365
      forewarn user list forewarn.toml --json
    """


def _of_vault(function: Callable[..., None]) -> Callable[..., None]:
    """Opens the vault of CONFIG for a verb; a refusal is the answer no: one line, exit code 1."""

    @click.argument("config", type=click.Path(path_type=Path))
    @wraps(function)
    def wrapped(config: Path, **kwargs: Any) -> None:
        from gateway.config import load
        from gateway.console.vault import Vault
        from gateway.core.refusal import Refused

        with closing(Vault(load(config).data_dir)) as vault:
            try:
                function(vault, **kwargs)
            except Refused as error:
                click.echo(f"forewarn user: {error}", err=True)
                sys.exit(1)

    return wrapped


def _by() -> str:
    try:
        return f"command line ({getpass.getuser()})"
    except (KeyError, OSError):
        return "command line"


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass("Password: ")
    if first != getpass.getpass("Again: "):
        raise click.UsageError("the two passwords differ")
    return first


def _audit(vault: "Vault", action: str, target: str) -> None:
    import time

    from gateway.console.trail import AuditEntry

    entry = AuditEntry(time.time_ns(), _by(), "command line", "", action, target, "", "done")
    vault.trail.add(entry)


@command.command("list")
@_of_vault
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def list_(vault: "Vault", *, as_json: bool) -> None:
    """Show everybody, and every token."""
    people = [{"name": u.name, "role": u.role.word, "by": u.created_by} for u in vault.users()]
    tokens = [
        {"name": t.name, "role": t.role.word, "by": t.created_by, "expires_ns": t.expires_ns}
        for t in vault.tokens()
    ]
    if as_json:
        click.echo(json.dumps({"users": people, "tokens": tokens}, indent=2, ensure_ascii=False))
        return
    for person in people:
        click.echo(f"{person['name']}  {person['role']}")
    for token in tokens:
        click.echo(f"{token['name']}  {token['role']}  token")
    if not people:
        click.echo("Nobody yet. Add somebody: forewarn user add CONFIG NAME --role engineer")


@command.command()
@_of_vault
@click.argument("name")
@click.option("--role", type=ROLES, default="operator", show_default=True)
def add(vault: "Vault", name: str, *, role: str) -> None:
    """Add a person."""
    from gateway.console.vault import Role

    vault.add_user(name, _password(), Role[role.upper()], _by())
    _audit(vault, f"add {role}", name)
    click.echo(f"{name} may sign in, as {role}.")


@command.command()
@_of_vault
@click.argument("name")
def password(vault: "Vault", name: str) -> None:
    """Set a new password, and sign that person out everywhere."""
    vault.set_password(name, _password())
    _audit(vault, "password", name)
    click.echo(f"{name} has a new password.")


@command.command()
@_of_vault
@click.argument("name")
@click.option("--role", type=ROLES, required=True)
def role(vault: "Vault", name: str, *, role: str) -> None:
    """Change what a person may do."""
    from gateway.console.vault import Role

    vault.set_role(name, Role[role.upper()])
    _audit(vault, f"role {role}", name)
    click.echo(f"{name} is now {role}.")


@command.command()
@_of_vault
@click.argument("name")
def remove(vault: "Vault", name: str) -> None:
    """Remove a person, and sign them out everywhere."""
    vault.remove_user(name)
    _audit(vault, "remove user", name)
    click.echo(f"{name} is gone.")


@command.command()
@_of_vault
@click.argument("name")
@click.option("--role", type=ROLES, default="viewer", show_default=True)
@click.option("--days", type=click.IntRange(0, 3660), default=0, help="0: never expires.")
def token(vault: "Vault", name: str, *, role: str, days: int) -> None:
    """Make a token for a program; it is printed once."""
    from gateway.console.vault import Role

    secret = vault.add_token(name, Role[role.upper()], _by(), days)
    _audit(vault, f"add {role} token", name)
    click.echo(secret)


@command.command()
@_of_vault
@click.argument("name")
def revoke(vault: "Vault", name: str) -> None:
    """Make a token worthless."""
    vault.revoke_token(name)
    _audit(vault, "revoke token", name)
    click.echo(f"The token {name} is worth nothing any more.")
