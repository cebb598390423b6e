"""Sentences for people: wrapped where a terminal shows them, whole lines where a program reads."""

import os
import sys
import textwrap

import click

WIDTH_UNTOLD = 80
"""Of a terminal that does not say how wide it is."""


def say(text: str, *, err: bool = False) -> None:
    """Print one line of text, for a terminal on as many as it takes; words stay whole."""
    stream = sys.stderr if err else sys.stdout
    if stream.isatty():
        width = os.get_terminal_size(stream.fileno()).columns or WIDTH_UNTOLD
        text = textwrap.fill(
            text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
    click.echo(text, file=stream)
