"""Answers a greeting."""


def handle(input, context):
    """Greet the name in the path, or the world."""
    name = input["httpDetails"].get("pathParameters", {}).get("name", "world")
    greeting = context.get("configuration", {}).get("greeting", "Hello")
    return {"message": f"{greeting}, {name}!"}
