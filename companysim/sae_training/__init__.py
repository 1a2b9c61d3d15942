"""Training of sparse autoencoders: text -> activations -> batches -> trainer -> SAE, and how good it is.

`texts` reads documents, `activations` runs the language model over them chunk by chunk, `batches` shuffles, `coder` is
the SAE with its loss, `trainer` the loop, `checkpoint` what it can be resumed from, `output` what it leaves behind.
`transfer` begins with a neighbour's SAE, `groups` finds layers that can share one, `evaluate` judges the result.
"""
