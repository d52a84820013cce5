"""The offline side: what a model should take on a stack, from coefficient tables.

    from profiler import fit, plan, predict, read_samples

    for fitted in fit(read_samples(Path("samples.csv"))):
        print(fitted.measured.name, fitted.coefficients.per_output_token, fitted.errors.p95)

These four come with NumPy, which is imported when the first of them is asked for.
"""

__all__ = ["fit", "plan", "predict", "read_samples"]

_FROM = {
    "fit": "profiler.fitting",
    "plan": "profiler.planner",
    "predict": "profiler.prediction",
    "read_samples": "profiler.samples",
}


def __getattr__(name: str) -> object:
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(__import__(_FROM[name], fromlist=[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
