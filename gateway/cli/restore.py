"""`forewarn restore`: a backup back into an empty data directory."""

from pathlib import Path

import click


@click.command()
@click.argument("archive", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("data_dir", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--etc",
    type=click.Path(path_type=Path, file_okay=False),
    help="Put the configuration and the bundles that it names here as well.",
)
def command(*, archive: Path, data_dir: Path, etc: Path | None) -> None:
    """Put ARCHIVE into DATA_DIR, which must be empty or missing, once every checksum fits.

    \b
    Example:
      forewarn restore /backup/forewarn-monday.tar.gz /var/lib/forewarn/data --etc /etc/forewarn
    """
    from gateway.backup import put_back

    manifest = put_back(archive, data_dir, etc)
    click.echo(f"{data_dir}: {len(manifest['files'])} files of {manifest['created']} are back")
