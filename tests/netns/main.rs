// SPDX-License-Identifier: Apache-2.0
//! Real sockets across network namespaces, against the agent as a black box.
//!
//! Each file tests one behaviour in a world of its own. Identifiers such as S5 name the cases of
//! the project's catalogue.

mod api_server;
mod api_server_away;
mod backend_removed;
mod bandwidth;
mod bench;
mod big_datagrams;
mod cleanup;
mod clsact;
mod clusterip;
mod command_line;
mod company;
mod configuration;
mod container;
mod cross_node;
mod endpoint_conditions;
mod expiry;
mod exposed;
mod flood;
mod foreign;
mod from_host;
mod from_outside;
mod hairpin;
mod health_checks;
mod hops;
mod host_fragments;
mod host_network;
mod icmp_errors;
mod in_cluster;
mod local_policy;
mod malformed;
mod metrics;
mod netfilter_policy;
mod node_addresses;
mod node_view;
mod overlay;
mod pmtu;
mod pod_churn;
mod policy_agent;
mod policy_model;
mod policy_programs;
mod policy_visible;
mod refused;
mod restart;
mod restart_outside;
mod reverse_path_filter;
mod rolling_update;
mod same_source_port;
mod scene;
mod service_types;
mod session_affinity;
mod shared_backend;
mod snat;
mod socket_lb;
mod source_ranges;
mod stale_sockets;
mod take_over;
mod three_nodes;
mod traffic_matrix;
mod transfer;
mod type_changes;
mod udp_moves;
mod worlds;
