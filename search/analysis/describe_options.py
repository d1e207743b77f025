"""Declare the options of describing pictures; imports nothing heavy, since --help reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypedDict, Unpack, cast

from twinlens.search.options import Option, check_options, options_of


class DescribeOptions(TypedDict, total=False):
    """Which texts to propose. The command line, HTTP and the client derive theirs from this."""

    count: Annotated[int, Option(1, "Propose this many texts for each picture.", ge=1, le=100)]
    min_probability: Annotated[
        float,
        Option(0.5, "Propose nothing that is less probable: then it cannot tell.", ge=0, le=1),
    ]
    labels: Annotated[
        Sequence[str],
        Option((), "The texts to choose from; default: the stored captions, or everyday words."),
    ]


#: Every option by name.
OPTIONS = options_of(DescribeOptions)


def check_describe_options(**options: Unpack[DescribeOptions]) -> DescribeOptions:
    """Check options, and fill in the defaults.

    Raises:
        UsageError: there is no such option, or its value is invalid.
    """
    check_options(options, {name: option.kind for name, option in OPTIONS.items()})
    values = {
        name: option.checked(name, options.get(name, option.default))
        for name, option in OPTIONS.items()
    }
    return cast("DescribeOptions", values)
