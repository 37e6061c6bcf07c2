// SPDX-License-Identifier: Apache-2.0
#include "xds/grpc/codec.hpp"

#include "xds/proto/cluster.pb.h"
#include "xds/proto/endpoint.pb.h"
#include "xds/proto/http_connection_manager.pb.h"
#include "xds/proto/listener.pb.h"
#include "xds/proto/route.pb.h"
#include "xds/proto/router.pb.h"

namespace mesh::xds {
namespace {

namespace core = envoy::config::core::v3;
namespace discovery = envoy::service::discovery::v3;
using ProtoAssignment = envoy::config::endpoint::v3::ClusterLoadAssignment;
using ProtoCluster = envoy::config::cluster::v3::Cluster;

constexpr int kInvalidArgument = 3;  // google.rpc.Code
constexpr std::size_t kMaxProblems = 4;

Health health_of(core::HealthStatus status) {
  switch (status) {
    case core::HEALTHY:
      return Health::kHealthy;
    case core::UNHEALTHY:
      return Health::kUnhealthy;
    case core::DRAINING:
      return Health::kDraining;
    case core::TIMEOUT:
      return Health::kTimeout;
    case core::DEGRADED:
      return Health::kDegraded;
    default:
      return Health::kUnknown;  // a value of a later version too
  }
}

Assignment from_proto(const ProtoAssignment& proto) {
  Assignment assignment{.name = proto.cluster_name()};
  assignment.localities.reserve(static_cast<std::size_t>(proto.endpoints_size()));
  for (const auto& from : proto.endpoints()) {
    Locality& locality = assignment.localities.emplace_back();
    locality.region = from.locality().region();
    locality.zone = from.locality().zone();
    if (from.has_load_balancing_weight()) locality.weight = from.load_balancing_weight().value();
    locality.priority = from.priority();
    locality.endpoints.reserve(static_cast<std::size_t>(from.lb_endpoints_size()));
    for (const auto& one : from.lb_endpoints()) {
      LbEndpoint& endpoint = locality.endpoints.emplace_back();
      const core::SocketAddress& address = one.endpoint().address().socket_address();
      endpoint.address = address.address();
      endpoint.port = address.port_value();
      endpoint.health = health_of(one.health_status());
      if (one.has_load_balancing_weight()) endpoint.weight = one.load_balancing_weight().value();
    }
  }
  return assignment;
}

Cluster from_proto(const ProtoCluster& proto) {
  Cluster cluster{.name = proto.name()};
  if (proto.has_cluster_type()) {
    cluster.kind = Cluster::Kind::kOther;
    cluster.kind_name = proto.cluster_type().name();
  } else if (proto.type() == ProtoCluster::EDS) {
    const core::ConfigSource& from = proto.eds_cluster_config().eds_config();
    if (from.has_ads() || from.has_self()) {
      cluster.eds_name = proto.eds_cluster_config().service_name();
    } else {
      cluster.kind = Cluster::Kind::kOther;
      cluster.kind_name = "EDS without ADS";
    }
  } else if (proto.type() == ProtoCluster::STATIC) {
    cluster.kind = Cluster::Kind::kStatic;
    cluster.assignment = from_proto(proto.load_assignment());
  } else {
    cluster.kind = Cluster::Kind::kOther;
    cluster.kind_name = ProtoCluster::DiscoveryType_Name(proto.type());
    if (cluster.kind_name.empty()) cluster.kind_name = std::to_string(proto.type());
  }
  return cluster;
}

template <typename Proto, typename Plain>
void read_resources(const discovery::DiscoveryResponse& response, std::vector<Plain>& out, Answer& answer) {
  out.reserve(static_cast<std::size_t>(response.resources_size()));
  Proto proto;
  for (int i = 0; i < response.resources_size(); ++i) {
    const auto& any = response.resources(i);
    if (any.type_url() == response.type_url() && proto.ParseFromString(any.value())) {
      out.push_back(from_proto(proto));
    } else if (answer.problems.size() < kMaxProblems) {
      answer.problems.push_back("resource " + std::to_string(i) + " is no " + Proto::descriptor()->name() +
                                (any.type_url() == response.type_url() ? "" : ", but of another type"));
    }
  }
}

constexpr std::string_view kTypePrefix = "type.googleapis.com";

core::HealthStatus status_of(Health health) { return static_cast<core::HealthStatus>(health); }

ProtoAssignment to_proto(const std::string& name, const Assignment& assignment) {
  ProtoAssignment proto;
  proto.set_cluster_name(name);
  for (const Locality& from : assignment.localities) {
    auto& locality = *proto.add_endpoints();
    locality.mutable_locality()->set_region(from.region);
    locality.mutable_locality()->set_zone(from.zone);
    locality.set_priority(from.priority);
    if (from.weight) locality.mutable_load_balancing_weight()->set_value(*from.weight);
    for (const LbEndpoint& one : from.endpoints) {
      auto& endpoint = *locality.add_lb_endpoints();
      auto& address = *endpoint.mutable_endpoint()->mutable_address()->mutable_socket_address();
      address.set_address(one.address);
      address.set_port_value(one.port);
      endpoint.set_health_status(status_of(one.health));
      if (one.weight) endpoint.mutable_load_balancing_weight()->set_value(*one.weight);
    }
  }
  return proto;
}

void set_ads(core::ConfigSource& source) {
  source.mutable_ads();
  source.set_resource_api_version(core::V3);
}

ProtoCluster cluster_of(const std::string& name) {
  ProtoCluster proto;
  proto.set_name(name);
  proto.set_type(ProtoCluster::EDS);
  set_ads(*proto.mutable_eds_cluster_config()->mutable_eds_config());
  return proto;
}

/// For a client that asks for a target, as gRPC's do: everything to this cluster.
envoy::config::listener::v3::Listener listener_of(const std::string& name, const std::string& cluster) {
  namespace manager = envoy::extensions::filters::network::http_connection_manager::v3;
  manager::HttpConnectionManager http;
  http.set_stat_prefix(cluster);
  auto& routes = *http.mutable_route_config();
  routes.set_name(name);
  auto& host = *routes.add_virtual_hosts();
  host.set_name(name);
  host.add_domains("*");
  auto& route = *host.add_routes();
  route.mutable_match()->set_prefix("");
  route.mutable_route()->set_cluster(cluster);
  auto& filter = *http.add_http_filters();
  filter.set_name("router");
  filter.mutable_typed_config()->PackFrom(envoy::extensions::filters::http::router::v3::Router(),
                                          std::string(kTypePrefix));
  envoy::config::listener::v3::Listener listener;
  listener.set_name(name);
  listener.mutable_api_listener()->mutable_api_listener()->PackFrom(http, std::string(kTypePrefix));
  return listener;
}

}  // namespace

std::optional<Request> from_message(const discovery::DiscoveryRequest& message) {
  const auto type = type_from(message.type_url());
  if (!type) return std::nullopt;
  Request request{.type = *type, .version = message.version_info(), .nonce = message.response_nonce()};
  if (message.has_error_detail()) request.error = message.error_detail().message();
  request.names.assign(message.resource_names().begin(), message.resource_names().end());
  if (message.has_node()) {
    request.node = Node{.id = message.node().id(), .cluster = message.node().cluster()};
  }
  return request;
}

discovery::DiscoveryResponse to_message(const Reply& reply) {
  static const Assignment kGone;
  discovery::DiscoveryResponse message;
  message.set_version_info(reply.version);
  message.set_nonce(reply.nonce);
  message.set_type_url(std::string(type_url(reply.type)));
  message.mutable_control_plane()->set_identifier("meshd");
  for (const Reply::Resource& one : reply.resources) {
    google::protobuf::Any& any = *message.add_resources();
    any.set_type_url(message.type_url());
    if (reply.type == Type::kEndpoints) {
      any.set_value(to_proto(one.name, one.served ? one.served->assignment : kGone).SerializeAsString());
    } else if (reply.type == Type::kCluster) {
      any.set_value(cluster_of(one.name).SerializeAsString());
    } else {
      any.set_value(listener_of(one.name, one.served->name).SerializeAsString());
    }
  }
  return message;
}

discovery::DiscoveryRequest to_message(const Request& request) {
  discovery::DiscoveryRequest message;
  message.set_version_info(request.version);
  message.set_type_url(std::string(type_url(request.type)));
  message.set_response_nonce(request.nonce);
  for (const std::string& name : request.names) message.add_resource_names(name);
  if (request.error) {
    message.mutable_error_detail()->set_code(kInvalidArgument);
    message.mutable_error_detail()->set_message(*request.error);
  }
  if (request.node) {
    core::Node& node = *message.mutable_node();
    node.set_id(request.node->id);
    node.set_cluster(request.node->cluster);
    node.mutable_locality()->set_region(request.node->region);
    node.mutable_locality()->set_zone(request.node->zone);
    node.set_user_agent_name(request.node->user_agent);
    node.set_user_agent_version(request.node->user_agent_version);
    for (const auto& [key, value] : request.node->metadata) {
      (*node.mutable_metadata()->mutable_fields())[key].set_string_value(value);
    }
  }
  return message;
}

Answer from_message(const discovery::DiscoveryResponse& response) {
  Answer answer{.type_url = response.type_url(),
                .type = type_from(response.type_url()),
                .version = response.version_info(),
                .nonce = response.nonce()};
  if (answer.type == Type::kCluster) read_resources<ProtoCluster>(response, answer.clusters, answer);
  if (answer.type == Type::kEndpoints) read_resources<ProtoAssignment>(response, answer.assignments, answer);
  return answer;
}

}  // namespace mesh::xds
