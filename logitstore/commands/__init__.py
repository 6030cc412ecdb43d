"""The commands of `logitstore`, thin over the library; `cli` puts them together."""
