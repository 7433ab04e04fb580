"""What runs inside a sandbox: takes `POST /execute` and runs an application's handlers.

Started as a program (`python -I -S <this folder> --config FILE`) under whatever Python the sandbox has:
the standard library only, and nothing of the platform's other packages. `docs/architecture.md`, "The
runner's doors", is the contract.
"""
