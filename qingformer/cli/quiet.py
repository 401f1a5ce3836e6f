"""Keep TensorFlow's greeting off standard error, which is for what concerns the user."""

import os
import sys
import tempfile

from qingformer.environment import check_backend


def import_keras_quietly() -> None:
    """Import Keras on TensorFlow with standard error set aside; what was written there is shown if the import fails.

    TensorFlow's native code writes there before any of its log settings take effect. On other backends nothing happens.
    Errors: `ConfigError` for a backend that is none.
    """
    check_backend()
    if os.environ.get("KERAS_BACKEND") != "tensorflow" or "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        failed = False
        try:
            import keras  # noqa: F401
        except Exception:  # not Ctrl-C, after which the greeting is as out of place as ever
            failed = True
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            if failed:
                aside.seek(0)
                os.write(2, aside.read())
