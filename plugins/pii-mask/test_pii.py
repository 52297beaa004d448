"""`python3 -m unittest`, without any component."""

import unittest

from pii import KINDS, mask, mask_text

ALL = list(KINDS)


class Masking(unittest.TestCase):
    def test_every_kind_is_masked_and_its_surroundings_stay(self):
        for text, masked in [
            ("mail ada.l+x@example.co.uk now", "mail [email] now"),
            ("to DE89 3704 0044 0532 0130 00.", "to [iban]."),
            ("card 4111-1111-1111-1111, thanks", "card [card], thanks"),
            ("call +49 (30) 901820", "call [phone]"),
        ]:
            self.assertEqual(mask_text(text, ALL), masked)

    def test_numbers_that_only_look_alike_stay(self):
        for text in ["order 4111111111111112", "DE00370400440532013000", "2024-01-31", "a@b"]:
            self.assertEqual(mask_text(text, ALL), text)

    def test_only_the_kinds_asked_for_are_masked(self):
        text = "ada@example.com +49 30 901820"
        self.assertEqual(mask_text(text, ["email"]), "[email] +49 30 901820")

    def test_texts_are_found_wherever_they_are(self):
        value = {"a@b.c": [1, None, {"to": "bob@example.com"}]}
        self.assertEqual(mask(value, ALL), {"a@b.c": [1, None, {"to": "[email]"}]})


if __name__ == "__main__":
    unittest.main()
