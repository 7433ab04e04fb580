"""Tests of the greeting. Run them here with `python -m unittest`, or with pytest."""

import unittest

from handler import handle


class HelloTest(unittest.TestCase):
    def test_greets_the_world(self):
        self.assertEqual(handle({"httpDetails": {}}, {}), {"message": "Hello, world!"})

    def test_greets_the_name_in_the_path(self):
        request = {"httpDetails": {"pathParameters": {"name": "Ada"}}}
        context = {"configuration": {"greeting": "Good morning"}}
        self.assertEqual(handle(request, context), {"message": "Good morning, Ada!"})


if __name__ == "__main__":
    unittest.main()
