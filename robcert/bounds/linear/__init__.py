"""Linear relaxation of a network over a set of inputs: intervals forwards, linear bounds backwards.

The graph that the network executes is compiled once into steps (`robcert.bounds.linear.program`). A step knows the
interval of its result from those of what it reads, and how linear bounds on its result become linear bounds on what it
reads. Everything is float64; every product is widened by what its rounding can be (`relax.backward`).

Sources: H. Zhang et al., Efficient Neural Network Robustness Certification with General Activation Functions, NeurIPS
2018 (CROWN); K. Xu et al., Automatic Perturbation Analysis for Scalable Certified Robustness and Beyond, NeurIPS 2020.
"""
