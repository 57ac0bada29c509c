"""The traced network: its operations, live channels and sites, and gates put into its graph.

It knows no gates and imports nothing of ftwt but errors.
"""
