"""Where ``ConvolutionalMixMate`` was; pickles that hold one look for it here."""


def __getattr__(name: str) -> object:
    if name == "ConvolutionalMixMate":
        raise ImportError(
            "ConvolutionalMixMate, of skmixmate 0.1.0 before its release, was removed: "
            "training made its clusters worse than they started. For textures see the "
            "page on images."
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
