"""The one door through which torchaudio comes in.

The torchaudio wheel links CUDA libraries. Beside a CPU-only torch a bare `import torchaudio` raises OSError,
although everything this project needs from it is pure PyTorch. Declaring the compiled extension absent lets
the rest load. Where the plain import works, nothing is changed.
"""
import sys
from types import ModuleType


def torchaudio() -> ModuleType:
    "The torchaudio module, on a CUDA build and on a CPU-only build of torch alike; call before importing SpeechBrain"
    try:
        import torchaudio
    except OSError:
        for name in [n for n in sys.modules if n.split(".")[0] == "torchaudio"]: del sys.modules[name]
        stub = ModuleType("torchaudio._extension")
        stub._IS_TORCHAUDIO_EXT_AVAILABLE = stub._IS_ALIGN_AVAILABLE = False
        stub.fail_if_no_align = lambda f: f
        sys.modules["torchaudio._extension"] = stub
        import torchaudio
    return torchaudio
