"""The documents about registered versions, as types: the registry fills them, pages show them, `--json` prints them."""
