"""Other tools' formats: a verified acquisition as a bag, an audit file or a graph, and sealed for whom it is meant."""
