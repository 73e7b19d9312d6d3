"""The commands of ``gramlin``: a module each, imported when it is called.

Each has ``main(arguments, prog)``: the words behind the command's name, and those up to it.
"""
