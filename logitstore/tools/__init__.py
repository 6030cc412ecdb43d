"""What is done with whole stores: check, repair, compare, copy and merge, recode, describe, exchange with others."""
