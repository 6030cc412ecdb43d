"""The commands of `logitstore`, thin over the library; `cli` groups them."""
