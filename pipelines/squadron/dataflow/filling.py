"""Filling: a template with a document in it. No nodes: it is what nodes call."""


def filled(template: str, title: str, text: str) -> str:
    """The template with a title and a text in it."""
    # Documents are data: the braces of the template are filled, theirs are not looked at.
    return template.format(title=title, text=text).lstrip("\n")
