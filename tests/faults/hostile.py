"""Hostile documents: texts, titles, ids and questions that mean something to a template, a shell, SQL or GraphQL."""

from typing import Any

HOSTILE = (
    "{{ var.value.embedding_service }} {{ conn.openai_default.password }} {% raw %}",
    "{text} {0} {settings.embedding} {text!r:>10}",
    "${HOME} $(id) `id` ; rm -rf / #",
    "%(asctime)s %s %d %n %",
    "<script>alert('1')</script><img src=x onerror=alert(2)> &amp; ]]>",
    "'; DROP TABLE books; -- ' OR '1'='1",
    '" OR "1"="1" `id` IS NOT NULL /* */',
    '{ Get { Books(where: {operator: Like, valueText: "*"}) { _additional { id } } } } "}',
    "[bold red]markup[/bold red] [/] \x1b[31mred\x1b[0m",
    "__import__('os').system('id') \\u0027 \\x27 \\ \\n",
    "../../etc/passwd file:///etc/passwd",
)


def hostile_rows() -> list[dict[str, Any]]:
    """A document for each: it is the id and the title, and a part of the text and of the question."""
    return [
        {
            "id": f"{words} id{number}",
            "title": f"{words} title{number}",
            "context": f"The word of this one is hostile{number}. {words}",
            "question": f"Which one has the word hostile{number}? {words}",
        }
        for number, words in enumerate(HOSTILE)
    ]
