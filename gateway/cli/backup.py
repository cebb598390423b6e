"""`forewarn backup`: everything a gateway knows, in one file, while it runs."""

from pathlib import Path

import click


@click.command()
@click.argument("config", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("archive", type=click.Path(path_type=Path, dir_okay=False))
def command(*, config: Path, archive: Path) -> None:
    """Copy log, trends, users, models, certificates and CONFIG into ARCHIVE (.tar.gz).

    The gateway may go on running. The archive holds private keys: keep it as such. Secrets that
    CONFIG refers to are not in it.

    \b
    Example:
      forewarn backup /etc/forewarn/forewarn.toml /backup/forewarn-monday.tar.gz
    """
    from gateway.backup import back_up
    from gateway.config import load

    manifest = back_up(config, load(config).data_dir, archive)
    size = archive.stat().st_size / 1e6
    click.echo(f"{archive}: {len(manifest['files'])} files, {size:.1f} MB")
