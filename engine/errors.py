"""The two ways in which a job ends early, apart from a bug. Standard library only."""


class UserError(Exception):
    """The user can mend this: one sentence that says what is wrong, where, and what to do."""


class Cancelled(Exception):
    """The user stopped the job; nothing was written."""
