"""A section "Example:" of a docstring is code, as "Examples:" is to griffe."""

import griffe


class Examples(griffe.Extension):
    """Renames the section while the docstrings are read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Rename it in one docstring."""
        if obj.docstring:
            value = obj.docstring.value
            obj.docstring.value = value.replace("\nExample:\n", "\nExamples:\n")
