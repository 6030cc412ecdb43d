"""What is done with whole stores: check, repair, compare, copy, merge, recode, describe, import and export."""
