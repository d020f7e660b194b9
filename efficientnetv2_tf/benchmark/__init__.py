"""`--mode=benchmark`: this package beside what a user would pick instead, on the user's own machine.

Each part is a module with the same three functions:

- `measure(recipe, console)` measures what a `BenchmarkRecipe` asks for and gives a dictionary that JSON can hold.
- `tables(result)` gives what it found as `report.Table`s, for the console, benchmark.md and the README.
- `draw(figure, result)` draws it into a matplotlib `SubFigure`.

What is measured runs in processes of its own, so that importing this needs no framework.
"""
