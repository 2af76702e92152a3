"""Work that takes no time, for the tests of the protocol."""

from benchmarks.protocol import Work


def build(spec):
    """Returns work that prints, or fails as the spec says."""
    if spec.get("fail") == "build":
        raise ValueError("no such size")

    def run():
        print("noise that is no answer")
        if spec.get("fail") == "run":
            raise ValueError("out of memory")

    return Work(run, updates=spec["updates"], facts={"size": spec["updates"]})
