// SPDX-License-Identifier: Apache-2.0
//! Packet vectors: what goes in, what comes out, what moved. Each runs on the host build of the
//! programs and on the loaded ones, with IPv4 and with IPv6.
//!
//! A vector is a fact in the present tense. It ends by saying everything that moved, so a counter
//! or a drop that nobody expected fails it. S1, I7 and so on number the cases that a service proxy
//! has to get right.

use std::net::{IpAddr, SocketAddr};

use pintle_abi::addr::proto;

use crate::{
    frame::{self, Frame, chunk, flag, tcp, udp},
    world::node_address,
};

pub mod affinity;
pub mod backend_gone;
pub mod clusterip;
pub mod connections;
pub mod early;
pub mod exposed_errors;
pub mod exposed_fragments;
pub mod exposed_shapes;
pub mod fragments;
pub mod hairpin;
pub mod host;
pub mod icmp_errors;
pub mod maglev;
pub mod masquerade;
pub mod matrix;
pub mod north_south;
pub mod odd_packets;
pub mod policy;
pub mod policy_closed;
pub mod policy_direct;
pub mod policy_portless;
pub mod policy_services;
pub mod refusal;
pub mod scene;
pub mod sctp;
pub mod sctp_odd;
pub mod tables;
pub mod take_over;

/// The same for the vectors of XDP, in worlds that have it.
#[macro_export]
macro_rules! for_each_early_vector {
    ($run:ident) => {
        $run! { early:
            connections_to_other_nodes_do_not_meet_tc, connections_to_this_node_are_left_to_tc,
            one_packet_a_second_takes_the_way_of_tc, unfinished_checksums_are_left_to_tc,
            rare_packets_are_left_to_tc, refused_clients_are_answered_at_once,
            unwelcome_clients_are_dropped_at_once, taken_source_port_is_left_to_tc,
            lost_flow_is_left_to_tc, main_entry_is_told_of_what_is_new,
            overflowing_flows_unsettle_others_for_a_moment,
            settled_clients_leave_a_backend_that_is_gone
        }
    };
}

/// Expands a macro to a test for each vector and family: `$run!(file, vector)`.
#[macro_export]
macro_rules! for_each_vector {
    ($run:ident) => {
        $run! { affinity:
            client_keeps_its_backend, addresses_of_a_service_port_share_it,
            service_ports_do_not_share_it, affinity_ends_and_is_refreshed,
            backend_that_left_the_set_is_left, backend_that_is_gone_is_left,
            affinity_needs_a_backend
        }
        $run! { backend_gone:
            udp_moves_to_another_backend_at_once, tcp_continues_with_a_backend_that_is_gone,
            unanswered_tcp_moves_to_another_backend, udp_is_refused_while_there_is_no_backend
        }
        $run! { clusterip:
            first_packet_goes_to_a_backend, reply_comes_from_the_service,
            reply_comes_from_the_service_after_its_removal, remote_backend_is_reached_through_the_stack,
            retransmitted_syn_goes_to_the_same_backend,
            retransmitted_syn_goes_to_the_same_backend_after_its_flow_was_lost,
            tcp_and_udp_share_a_port_number, services_share_a_backend,
            one_client_port_reaches_one_backend_through_two_services,
            moved_connection_keeps_its_port, tuples_spread_evenly, other_traffic_is_untouched
        }
        $run! { connections:
            tuple_is_reused_after_both_fins,
            tuple_of_a_backend_in_time_wait_is_left_alone, tuple_is_reused_after_a_reset,
            tuple_is_reused_after_a_timeout, live_tuple_is_not_reused_by_a_syn,
            idle_udp_tuple_is_reused, spurious_reset_is_retracted, states_follow_the_segments,
            connection_is_picked_up_in_its_middle, lost_main_entry_is_restored,
            finished_connection_does_not_touch_its_successor
        }
        $run! { exposed_errors:
            error_about_a_masqueraded_request_reaches_the_client,
            error_about_a_masqueraded_answer_reaches_the_backend,
            error_of_this_node_reaches_the_masqueraded_client,
            errors_about_a_masqueraded_pod_are_translated,
            errors_through_the_stack_are_translated_behind_it,
            errors_past_the_stack_are_translated,
            errors_about_the_hosts_connections_are_translated,
            errors_about_unknown_connections_are_left_to_the_node
        }
        $run! { exposed_fragments:
            fragments_pass_through_a_node_port, fragments_of_masqueraded_clients_pass,
            fragments_to_a_node_port_wait_for_their_first,
            fragments_for_the_node_itself_are_untouched,
            fragments_for_the_node_itself_wait_for_their_first,
            fragments_for_other_ports_are_untouched,
            fragments_share_the_fate_of_their_first,
            fragments_of_the_host_reach_a_backend
        }
        $run! { exposed_shapes:
            unusual_headers_are_kept_from_outside,
            unusual_headers_are_kept_from_the_host,
            malformed_packets_are_left_to_the_node,
            last_hop_of_a_masqueraded_packet_goes_to_the_stack,
            last_hop_from_outside_goes_to_the_stack,
            masqueraded_udp_without_checksum_stays_without,
            lookalikes_of_a_connection_are_left_alone,
            states_of_an_exposed_connection_follow_the_segments
        }
        $run! { fragments:
            fragments_follow_their_first, fragmented_reply_comes_from_the_service,
            later_fragments_wait_for_their_first, fragment_without_place_is_dropped,
            fragment_elsewhere_is_untouched,
            reused_identification_follows_the_new_first, old_first_fragment_is_forgotten
        }
        $run! { hairpin: pod_reaches_itself, pod_reaches_itself_behind_the_stack }
        $run! { host:
            host_reaches_a_pod_of_its_node, host_reaches_a_pod_of_another_node,
            other_address_of_the_host_is_masqueraded, host_reaches_a_server_of_its_own,
            nobody_outside_takes_the_tuple_of_a_client_here,
            loopback_source_is_masqueraded, forwarded_packets_are_left_alone,
            host_is_told_that_it_is_refused, client_outside_is_told_that_it_is_refused,
            echo_is_refused_at_cluster_addresses_only,
            lost_connection_of_the_host_is_restored
        }
        $run! { icmp_errors:
            error_of_a_router_names_the_service, error_of_the_backend_comes_from_the_service,
            error_of_the_client_reaches_the_backend, error_behind_the_stack_names_the_service,
            error_quotes_eight_bytes, error_quotes_options, error_of_no_flow_is_dropped,
            error_elsewhere_is_untouched, echo_to_a_service_is_refused, echo_elsewhere_is_untouched
        }
        $run! { maglev:
            two_nodes_choose_the_same_backend, client_with_affinity_has_one_backend_at_both_nodes
        }
        $run! { masquerade:
            port_in_the_range_is_kept, second_client_of_a_port_gets_another,
            clients_with_one_source_port_are_kept_apart,
            exhausted_ports_fail_new_clients_only,
            ports_of_finished_connections_are_used_again,
            node_without_ports_or_address_drops, half_of_a_masqueraded_pair_is_restored,
            lost_masqueraded_connection_is_rebuilt,
            clients_that_are_no_pods_are_masqueraded_if_asked_for,
            pod_is_masqueraded_at_external_addresses,
            pod_reaches_a_neighbour_at_external_addresses,
            pod_reaches_itself_at_external_addresses,
            everybody_is_masqueraded_if_asked_for,
            masqueraded_datagrams_leave_a_backend_that_is_gone
        }
        $run! { matrix:
            cluster_address_follows_the_internal_policy,
            other_addresses_with_policy_cluster_reach_everything,
            other_addresses_with_policy_local_keep_the_client,
            everything_is_masqueraded_if_asked_for, service_leaves_nothing_behind
        }
        $run! { north_south:
            pod_of_this_node_sees_the_client,
            pod_of_this_node_is_reached_past_the_stack,
            pod_of_another_node_sees_this_node,
            node_port_answers_at_node_addresses_only,
            unknown_port_of_a_load_balancer_does_not_loop,
            external_ip_of_somebody_else_takes_its_port_only,
            services_share_a_remote_backend
        }
        $run! { odd_packets:
            ipv4_options_are_kept, extension_headers_are_kept, too_many_extension_headers_are_refused,
            no_next_header_is_refused, padding_is_kept, truncated_packet_is_dropped,
            contradictory_header_is_dropped, last_hop_goes_to_the_stack,
            udp_without_checksum_stays_without, udp_checksum_is_never_zero
        }
        $run! { policy:
            clients_outside_get_backends_of_this_node_only,
            clients_outside_are_dropped_without_backends_of_this_node,
            pods_are_known_by_their_addresses,
            clients_inside_are_dropped_without_backends_of_this_node,
            only_clients_in_a_source_range_are_served,
            source_ranges_bind_pods_and_the_host,
            source_ranges_leave_connections_and_other_addresses_alone,
            unallocated_cluster_address_is_dropped
        }
        $run! { policy_services:
            egress_is_judged_behind_the_service, fast_path_asks_both_ends,
            unselected_pods_are_not_asked, selected_and_unknown_pods_are_asked,
            connections_to_services_are_counted_at_each_end,
            ends_behind_the_stack_judge_for_themselves,
            clients_outside_are_judged_by_their_addresses,
            masqueraded_pods_are_judged_by_their_addresses,
            hosts_connections_to_services_are_let_in,
            pod_that_reaches_itself_has_rulesets_for_it,
            service_that_goes_leaves_no_way_around, errors_about_services_pass,
            fragments_to_services_are_judged
        }
        $run! { policy_portless:
            echo_follows_portless_rules, echo_of_the_own_node_is_let_in,
            other_protocols_follow_portless_rules,
            errors_about_allowed_connections_pass,
            neighbour_discovery_always_passes,
            fragments_share_the_verdict_of_their_first,
            fragments_of_an_echo_share_its_verdict, truncated_packets_are_dropped,
            unusual_headers_are_judged
        }
        $run! { policy_closed:
            own_node_is_let_in, own_node_stays_in_after_a_change,
            answers_of_the_own_node_open_nothing, unknown_pod_is_closed,
            unknown_pod_is_open_if_asked_for, foreign_source_is_dropped,
            doubtful_packets_are_noted,
            foreign_source_does_not_join_a_connection,
            address_of_a_missing_family_is_foreign,
            policies_that_are_off_judge_nothing
        }
        $run! { policy_direct:
            allowed_egress_passes_with_its_answers, denied_egress_is_dropped,
            allowed_ingress_passes_with_its_answers, denied_ingress_is_dropped,
            both_ends_must_allow, change_ends_established_connections,
            change_ends_connections_of_the_client,
            unknown_connections_are_judged_by_their_ports, unclear_packets_are_noted_once,
            allowed_connections_are_counted_once,
            finished_connection_does_not_bind_its_successor,
            unanswered_datagrams_do_not_bind_the_other_end,
            pods_without_policy_are_not_tracked, longest_prefix_gives_the_class,
            closed_ruleset_denies_everything, missing_row_denies,
            audited_policies_only_report, full_flow_maps_do_not_open_or_close,
            port_ranges_end_at_their_edges
        }
        $run! { refusal:
            service_without_backends_is_refused, service_without_backends_drops_silently_if_told_to,
            unknown_port_is_refused, unsupported_protocol_is_refused, refusals_are_limited,
            refusal_quotes_options, reset_follows_the_packet_not_the_frame
        }
        $run! { sctp:
            association_is_translated_both_ways, reply_comes_from_the_service_after_its_removal,
            remote_backend_is_reached_through_the_stack, retransmitted_init_goes_to_the_same_backend,
            three_protocols_share_a_port_number, pod_reaches_itself, tuple_is_reused_after_an_abort,
            tuple_is_reused_after_a_shutdown, tuple_is_reused_after_a_timeout,
            states_follow_the_chunks, unanswered_init_moves_to_another_backend,
            one_client_port_reaches_one_backend_through_two_services,
            client_outside_is_masqueraded, masqueraded_clients_are_kept_apart, host_reaches_a_service
        }
        $run! { sctp_odd:
            client_of_nobody_gets_an_abort, end_of_an_association_gets_no_abort,
            full_flow_map_refuses_new_associations, checksum_of_a_device_stays_empty,
            damaged_packet_stays_damaged, padding_is_not_summed, unusual_headers_are_kept,
            fragments_are_dropped, truncated_packet_is_dropped, error_names_the_service,
            error_of_the_client_reaches_the_backend, association_of_the_kernel_is_left_to_it
        }
        $run! { tables:
            full_flow_map_overflows, overflowed_flow_is_found_again, established_survives_a_full_map
        }
        $run! { take_over:
            unknown_tcp_connections_are_left_to_the_kernel,
            unknown_tcp_connections_are_ours_afterwards, connections_of_the_kernel_pass,
            new_tcp_connection_leaves_the_kernel,
            datagrams_leave_the_kernel_when_their_backend_is_gone,
            errors_about_connections_of_the_kernel_pass
        }
    };
}

/// An address family: every vector's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The protocols of a service.
pub const PROTOCOLS: [u8; 2] = [proto::TCP, proto::UDP];

impl Ip {
    /// Whether this is IPv6.
    pub fn is_v6(self) -> bool {
        self == Self::V6
    }

    fn address(self, v4: [u8; 4], v6: [u16; 2]) -> IpAddr {
        match self {
            Self::V4 => IpAddr::from(v4),
            Self::V6 => IpAddr::from([0xfd00, v6[0], 0, 0, 0, 0, 0, v6[1]]),
        }
    }

    /// The client.
    pub fn client(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address([10, 244, 1, 9], [1, 9]), port)
    }

    /// The service.
    pub fn service(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address([10, 96, 0, 10], [96, 10]), port)
    }

    /// Another service.
    pub fn other_service(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address([10, 96, 0, 11], [96, 11]), port)
    }

    /// The cluster's range of service addresses.
    pub fn service_range(self) -> IpAddr {
        self.address([10, 96, 0, 0], [96, 0])
    }

    /// A backend by number; its address sorts before or behind the client's.
    pub fn backend(self, number: u8, port: u16) -> SocketAddr {
        let subnet = u16::from(number % 2) * 2;
        let ip = self.address([10, 244, subnet as u8, number], [subnet, u16::from(number)]);
        SocketAddr::new(ip, port)
    }

    /// A client outside the cluster, by number.
    pub fn outside(self, number: u8, port: u16) -> SocketAddr {
        let ip = self.address([203, 0, 113, number], [113, u16::from(number)]);
        SocketAddr::new(ip, port)
    }

    /// This node: its address A, which also stands for masqueraded clients.
    pub fn node(self, port: u16) -> SocketAddr {
        SocketAddr::new(node_address(self.is_v6()), port)
    }

    /// This node's address B.
    pub fn node_b(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address([192, 168, 1, 1], [169, 1]), port)
    }

    /// This host for itself.
    pub fn loopback(self, port: u16) -> SocketAddr {
        let ip = match self {
            Self::V4 => IpAddr::from(std::net::Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        };
        SocketAddr::new(ip, port)
    }

    /// A pod of another node.
    pub fn remote_pod(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address([10, 244, 3, 3], [3, 3]), port)
    }

    /// The prefix of all pods' addresses, and its length.
    pub fn pods(self) -> (IpAddr, u8) {
        let ip = self.address([10, 244, 0, 0], [0, 0]);
        (ip, if self.is_v6() { 30 } else { 16 })
    }

    /// Another node.
    pub fn other_node(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address([192, 168, 0, 2], [168, 2]), port)
    }

    /// The address of a load balancer.
    pub fn load_balancer(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address([198, 51, 100, 7], [100, 7]), port)
    }

    /// An external IP.
    pub fn external(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address([198, 51, 100, 80], [100, 80]), port)
    }

    /// A router on the way.
    pub fn router(self) -> IpAddr {
        self.address([10, 244, 0, 254], [0, 254])
    }
}

/// The first packet of a connection.
pub fn first(proto: u8, src: SocketAddr, dst: SocketAddr) -> Frame {
    match proto {
        proto::TCP => tcp(src, dst, flag::SYN),
        proto::SCTP => frame::sctp(src, dst, chunk::INIT),
        _ => udp(src, dst),
    }
}

/// A packet of an established connection.
pub fn data(proto: u8, src: SocketAddr, dst: SocketAddr) -> Frame {
    match proto {
        proto::TCP => tcp(src, dst, flag::ACK).payload("some data"),
        // A DATA chunk: type, flags, length, number, stream, number, kind; its padding is missing.
        proto::SCTP => frame::sctp(src, dst, chunk::DATA)
            .payload(*b"\0\x03\0\x19\0\0\0\x01\0\0\0\0\0\0\0\0some data"),
        _ => udp(src, dst).payload("some data"),
    }
}
