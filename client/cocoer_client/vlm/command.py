"""Ask a vision-language model about the persons in images: ``cocoer-vlm --help``."""

from __future__ import annotations

from collections.abc import Sequence

from cocoer_client.command import INTERRUPTED, MODEL_CHANGED, NO_SERVER, SOME_FAILED, TERMINATED, USAGE
from cocoer_client.errors import CocoerError, InvalidInput, InvalidRequest, ModelChanged, ServerUnavailable
from cocoer_client.files import cant_write
from cocoer_client.optional import needs
from cocoer_client.signals import Terminated, terminable
from cocoer_client.terminal import complain


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script."""
    try:
        needs("cocoer-vlm", "openai", extra="vlm")
        from cocoer_client.vlm.arguments import parse_args

        args = parse_args(argv)
        # After --help and what is wrong with the options: the library takes longer to import than all the rest.
        from cocoer_client.vlm.run import run

        with terminable():
            return run(args)
    except ServerUnavailable as error:
        complain(str(error))
        return NO_SERVER
    except (InvalidInput, InvalidRequest) as error:
        complain(str(error))
        return USAGE
    except ModelChanged as error:
        complain(str(error))
        return MODEL_CHANGED
    except (CocoerError, OSError) as error:
        complain(cant_write(error) if isinstance(error, OSError) else str(error))
        return SOME_FAILED
    except Terminated:
        return TERMINATED
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
