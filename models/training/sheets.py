"""Lays companies side by side for a graph, [companies, n, g], and gathers what they say again."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.graph import Graph
from models.training.company import Company
from models.training.detector import Detector
from models.training.motion import Motion

OWNERS_MAX = 1 << 17
"""Features times signals, above which it costs more to multiply by what is nearly all 0."""


def stirring(parts: Sequence[Detector], errors: int) -> tuple[tuple[Detector, ...], Motion]:
    """The same, without the movements that concern no residual: of most machines, without any.

    Args:
        parts: What is to be in one graph.
        errors: How many standard errors there are, before the movements.
    """
    motion = parts[0].motion
    stirs = np.zeros(errors + len(motion.at), bool)
    stirs[:errors] = True
    for each in (company for part in parts for company in part.companies):
        stirs[each.errors] |= each.felt.any(axis=1)
    place = np.cumsum(stirs) - 1
    at = stirs[errors:]
    kept = replace(motion, at=motion.at[at], unit=motion.unit[at])
    return tuple(
        replace(
            part, motion=kept, companies=tuple(_without(c, stirs, place) for c in part.companies)
        )
        for part in parts
    ), kept


def _without(company: Company, stirs: NDArray[np.bool_], place: NDArray[np.int64]) -> Company:
    mine = stirs[company.errors]
    return replace(
        company,
        errors=place[company.errors[mine]],
        felt=company.felt[mine],
        unforeseen=company.unforeseen[mine],
    )


def one_of(part: Detector, e: int) -> Company:
    """All of a detector's features as one company, those that are judged first: two products of
    half the size, and what cuts and joins them, take longer."""
    told = [(each, each.at, each.errors) for each in part.companies]
    return _framed(told, part.judged, len(part.independent), e)


def even(companies: Sequence[Company]) -> list[Company]:
    """The same, all of one size: filled up with features that explain nothing."""
    g, e = max(c.judged for c in companies), max(len(c.errors) for c in companies)
    h = g + max(len(c.at) - c.judged for c in companies)
    out = []
    for c in companies:
        place = np.append(np.arange(c.judged), g + np.arange(len(c.at) - c.judged))
        out.append(_framed([(c, place, np.arange(len(c.errors)))], g, h, e))
    return out


def _framed(
    parts: Sequence[tuple[Company, NDArray[np.int64], NDArray[np.int64]]], g: int, h: int, e: int
) -> Company:
    """One company of several, each with the places of its features and errors."""
    at, errors, centre = np.zeros(h, np.int64), np.zeros(e, np.int64), np.zeros(h)
    scale, own, expected = np.ones(h), np.ones(h), np.zeros((h, h))
    felt, unforeseen, seen = np.zeros((e, g)), np.zeros((e, h)), np.zeros((2, h))
    for company, place, told in parts:
        at[place], errors[told], centre[place] = company.at, company.errors, company.centre
        scale[place], own[place] = company.scale, company.own
        expected[np.ix_(place, place)] = company.expected
        felt[np.ix_(told, place[: company.judged])] = company.felt
        unforeseen[np.ix_(told, place)] = company.unforeseen
        seen[:, place] = company.seen
    return Company(at, g, h, errors, centre, scale, own, expected, expected, felt, unforeseen, seen)


def deal(graph: Graph, tensor: str, at: Sequence[NDArray[np.int64]]) -> str:
    """[companies, n, g], each company's columns of [n, d]."""
    columns = graph.node("Gather", tensor, graph.constant(np.stack(at), np.int64), axis=1)
    return graph.node("Transpose", columns, perm=[1, 0, 2])


def gather_in(graph: Graph, tensor: str, companies: Sequence[Company]) -> str:
    """[n, d], the columns of all companies in the order of the features again."""
    g = max(company.judged for company in companies)
    place = np.empty(sum(company.judged for company in companies), np.int64)
    for index, company in enumerate(companies):
        place[company.mine] = index * g + np.arange(company.judged)
    rows = graph.node("Transpose", tensor, perm=[1, 0, 2])
    flat = graph.node("Reshape", rows, graph.constant([-1, len(companies) * g], np.int64))
    return graph.node("Gather", flat, graph.constant(place, np.int64), axis=1)


def by_signal(graph: Graph, tensor: str, owner: NDArray[np.float64]) -> str:
    """[n, k], the sum over the features of each signal.

    Args:
        tensor: [n, d].
        owner: float64[d, k], 1 where a feature is of a signal, else 0.
    """
    if owner.size <= OWNERS_MAX:
        return graph.node("MatMul", tensor, graph.constant(owner))
    count = owner.sum(axis=0).astype(np.int64)
    terms = []
    for turn in range(max(1, int(count.max()))):
        # The next feature of each signal; where there is none, the first of all, times 0.
        at = np.argsort(-owner, axis=0, kind="stable")[turn] * (count > turn)
        found = graph.node("Gather", tensor, graph.constant(at, np.int64), axis=1)
        terms.append(graph.node("Mul", found, graph.constant((count > turn).astype(float))))
    return terms[0] if len(terms) == 1 else graph.node("Sum", *terms)
