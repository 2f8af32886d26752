"""From a trained model to a named answer: in Python, on the command line, over HTTP and on a page. No torch."""
