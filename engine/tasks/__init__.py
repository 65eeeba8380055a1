"""One file a job: ``run(params, context) -> dict``. The table of jobs is in `engine/jobs.py`."""
