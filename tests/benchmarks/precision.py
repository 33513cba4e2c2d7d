"""What fewer bytes a vector cost: error, cosine, and how many of the ten nearest texts stay the same.

Usage: python tests/benchmarks/precision.py RELEASE [VARIANT]

The texts are Django's and botocore's, which the default suite is made of: English interface messages and the
documentation of AWS services. One in ten is a query, the others are searched.
"""
