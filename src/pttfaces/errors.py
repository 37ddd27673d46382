"""The tree of errors that a person can do something about.

    PttFacesError        anything below; a stage prints it as one sentence and ends with exit code 2
    ├── ParamsError      params.yaml says something that cannot be
    ├── SiteError        the board or a picture host does not answer as it should
    ├── DataError        there is too little, or something else than expected, to work on
    └── WeightsError     a network's weights are missing or are not the ones expected

A message says what was wrong, where, what was expected and what to do next. Anything else that is
raised is a bug and keeps its stack trace.
"""


class PttFacesError(Exception):
    """One sentence for a person; the base of all errors of this project."""


class ParamsError(PttFacesError):
    """params.yaml (or a command's argument) holds something that is not allowed."""


class SiteError(PttFacesError):
    """A site is down, refuses, or serves something else than it should."""


class DataError(PttFacesError):
    """The data at hand cannot be worked on: too few, unreadable, or of the wrong form."""


class WeightsError(PttFacesError):
    """A file of weights is missing, or its digest is not the expected one."""
