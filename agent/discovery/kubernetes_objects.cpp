// SPDX-License-Identifier: Apache-2.0
#include "discovery/kubernetes_objects.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/random.hpp"

namespace mesh::discovery::kubernetes {
namespace {

using base::ErrorKind;

/// Where in a document the parser is. What no row of kPlaces leads to is kSkip, and everything in it.
enum class Place : std::uint8_t {
  kSkip,
  kEvent,
  kEventType,
  kObject,  ///< Also a list: it is an object with items.
  kKind,
  kItems,
  kMeta,
  kName,
  kSpace,
  kResourceVersion,
  kContinue,
  kLabels,
  kServiceName,
  kZoneLabel,
  kProxyName,
  kAnnotations,
  kOwnAnnotation,
  kChangedAt,
  kSpec,
  kServiceType,
  kClusterIp,
  kClusterIps,
  kExternalIps,
  kIpFamilies,
  kAffinity,
  kAffinityConfig,
  kClientIp,
  kAffinityTimeout,
  kInternalPolicy,
  kServicePorts,
  kServicePortName,
  kServicePortNumber,
  kServicePortProtocol,
  kStatus,
  kLoadBalancer,
  kIngress,
  kIngressIp,
  kIngressMode,
  kAddressType,
  kEndpoints,
  kAddresses,
  kConditions,
  kReady,
  kServing,
  kTerminating,
  kNode,
  kZone,
  kTarget,
  kTargetUid,
  kTargetName,
  kHints,
  kForZones,
  kForZoneName,
  kForNodes,
  kForNodeName,
  kSlicePorts,
  kSlicePortName,
  kSlicePortNumber,
  kSlicePortProtocol,
  kCode,
  kReason,
  kMessage,
  kDetails,
  kRetryAfter,
};

struct Step {
  Place from;
  std::string_view key;
  Place to;
};

/// The elements of a list are at the place of the list.
constexpr Step kSteps[] = {
    {Place::kEvent, "type", Place::kEventType},
    {Place::kEvent, "object", Place::kObject},
    {Place::kObject, "kind", Place::kKind},
    {Place::kObject, "items", Place::kItems},
    {Place::kObject, "metadata", Place::kMeta},
    {Place::kObject, "spec", Place::kSpec},
    {Place::kObject, "status", Place::kStatus},
    {Place::kObject, "addressType", Place::kAddressType},
    {Place::kObject, "endpoints", Place::kEndpoints},
    {Place::kObject, "ports", Place::kSlicePorts},
    {Place::kObject, "code", Place::kCode},
    {Place::kObject, "reason", Place::kReason},
    {Place::kObject, "message", Place::kMessage},
    {Place::kObject, "details", Place::kDetails},
    {Place::kDetails, "retryAfterSeconds", Place::kRetryAfter},
    {Place::kMeta, "name", Place::kName},
    {Place::kMeta, "namespace", Place::kSpace},
    {Place::kMeta, "resourceVersion", Place::kResourceVersion},
    {Place::kMeta, "continue", Place::kContinue},
    {Place::kMeta, "labels", Place::kLabels},
    {Place::kMeta, "annotations", Place::kAnnotations},
    {Place::kLabels, "kubernetes.io/service-name", Place::kServiceName},
    {Place::kLabels, "topology.kubernetes.io/zone", Place::kZoneLabel},
    {Place::kLabels, "service.kubernetes.io/service-proxy-name", Place::kProxyName},
    {Place::kAnnotations, "endpoints.kubernetes.io/last-change-trigger-time", Place::kChangedAt},
    {Place::kSpec, "type", Place::kServiceType},
    {Place::kSpec, "clusterIP", Place::kClusterIp},
    {Place::kSpec, "clusterIPs", Place::kClusterIps},
    {Place::kSpec, "externalIPs", Place::kExternalIps},
    {Place::kSpec, "ipFamilies", Place::kIpFamilies},
    {Place::kSpec, "sessionAffinity", Place::kAffinity},
    {Place::kSpec, "sessionAffinityConfig", Place::kAffinityConfig},
    {Place::kSpec, "internalTrafficPolicy", Place::kInternalPolicy},
    {Place::kSpec, "ports", Place::kServicePorts},
    {Place::kAffinityConfig, "clientIP", Place::kClientIp},
    {Place::kClientIp, "timeoutSeconds", Place::kAffinityTimeout},
    {Place::kServicePorts, "name", Place::kServicePortName},
    {Place::kServicePorts, "port", Place::kServicePortNumber},
    {Place::kServicePorts, "protocol", Place::kServicePortProtocol},
    {Place::kStatus, "loadBalancer", Place::kLoadBalancer},
    {Place::kLoadBalancer, "ingress", Place::kIngress},
    {Place::kIngress, "ip", Place::kIngressIp},
    {Place::kIngress, "ipMode", Place::kIngressMode},
    {Place::kEndpoints, "addresses", Place::kAddresses},
    {Place::kEndpoints, "conditions", Place::kConditions},
    {Place::kEndpoints, "nodeName", Place::kNode},
    {Place::kEndpoints, "zone", Place::kZone},
    {Place::kEndpoints, "targetRef", Place::kTarget},
    {Place::kEndpoints, "hints", Place::kHints},
    {Place::kConditions, "ready", Place::kReady},
    {Place::kConditions, "serving", Place::kServing},
    {Place::kConditions, "terminating", Place::kTerminating},
    {Place::kTarget, "uid", Place::kTargetUid},
    {Place::kTarget, "name", Place::kTargetName},
    {Place::kHints, "forZones", Place::kForZones},
    {Place::kHints, "forNodes", Place::kForNodes},
    {Place::kForZones, "name", Place::kForZoneName},
    {Place::kForNodes, "name", Place::kForNodeName},
    {Place::kSlicePorts, "name", Place::kSlicePortName},
    {Place::kSlicePorts, "port", Place::kSlicePortNumber},
    {Place::kSlicePorts, "protocol", Place::kSlicePortProtocol},
};

Place step(Place from, std::string_view key) {
  if (from == Place::kSkip) return Place::kSkip;
  if (from == Place::kItems) from = Place::kObject;
  for (const Step& one : kSteps) {
    if (one.from == from && one.key == key) return one.to;
  }
  return from == Place::kAnnotations && key.starts_with(kAnnotationPrefix) ? Place::kOwnAnnotation : Place::kSkip;
}

EventType event_type(std::string_view text) {
  if (text == "ADDED") return EventType::kAdded;
  if (text == "MODIFIED") return EventType::kModified;
  if (text == "DELETED") return EventType::kDeleted;
  if (text == "BOOKMARK") return EventType::kBookmark;
  if (text == "ERROR") return EventType::kError;
  return EventType::kUnknown;
}

std::optional<model::Protocol> protocol_of(std::string_view text) {
  if (text == "TCP") return model::Protocol::kTcp;
  if (text == "UDP") return model::Protocol::kUdp;
  return std::nullopt;
}

void add_ip(std::string_view text, std::vector<base::IpAddress>& to) {
  const auto ip = base::IpAddress::parse(text);
  if (ip && !ip->is_unspecified() && std::ranges::find(to, *ip) == to.end()) to.push_back(*ip);
}

/// nlohmann's SAX events to Objects. The document is an event, or an object, which may be a list.
class Reader {
 public:
  using Json = nlohmann::json;

  Reader(Place root, const std::function<void(Object&&)>* item) : next_(root), item_(item) {}

  EventType type = EventType::kUnknown;
  Object object;
  std::string next_page;
  bool has_items = false;
  std::string error;

  // What the parser calls.
  bool null() { return true; }
  bool boolean(bool value) {
    if (SliceEndpoint* const endpoint = this->endpoint()) {
      if (next_ == Place::kReady) endpoint->ready = value;
      if (next_ == Place::kServing) endpoint->serving = value;
      if (next_ == Place::kTerminating) endpoint->terminating = value;
    }
    return true;
  }
  bool number_integer(std::int64_t) { return true; }
  bool number_unsigned(std::uint64_t value) {
    const auto port = static_cast<std::uint16_t>(value <= 65535 ? value : 0);
    if (next_ == Place::kServicePortNumber && !object.service.ports.empty()) object.service.ports.back().port = port;
    if (next_ == Place::kSlicePortNumber && !object.slice.ports.empty()) object.slice.ports.back().port = port;
    const auto seconds = std::chrono::seconds(std::min<std::uint64_t>(value, 86400));
    if (next_ == Place::kAffinityTimeout) object.service.affinity_timeout = seconds;
    if (next_ == Place::kRetryAfter) object.status.retry_after = seconds;
    if (next_ == Place::kCode) object.status.code = static_cast<int>(std::min<std::uint64_t>(value, 999));
    return true;
  }
  bool number_float(double, const std::string&) { return true; }
  bool string(std::string& text);
  bool binary(Json::binary_t&) { return false; }
  bool start_object(std::size_t);
  bool key(std::string& text) {
    next_ = step(open_.back().place, text);
    if (next_ == Place::kOwnAnnotation) {
      object.meta.annotations.emplace_back(text.substr(kAnnotationPrefix.size()), "");
    }
    return true;
  }
  bool end_object();
  bool start_array(std::size_t) {
    if (next_ == Place::kItems && open_.size() == 1) {
      has_items = true;
      outer_ = std::exchange(object, {});
    } else if (next_ == Place::kItems) {
      next_ = Place::kSkip;
    }
    return open(true);
  }
  bool end_array() {
    const bool items = open_.back().place == Place::kItems;
    open_.pop_back();
    if (items) object = std::move(outer_);
    next_ = in_list();
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) {
    error = "no JSON at byte " + std::to_string(position);
    return false;
  }

 private:
  struct Open {
    Place place;
    bool list;
  };

  bool open(bool list) {
    if (open_.size() >= kMaxJsonDepth) {
      error = "nested deeper than " + std::to_string(kMaxJsonDepth);
      return false;
    }
    open_.push_back({next_, list});
    return true;
  }
  /// Where the next value of the list that is open is; nowhere, in an object: its key says.
  [[nodiscard]] Place in_list() const {
    return !open_.empty() && open_.back().list ? open_.back().place : Place::kSkip;
  }
  SliceEndpoint* endpoint() { return object.slice.endpoints.empty() ? nullptr : &object.slice.endpoints.back(); }
  void finish_object();
  void finish_endpoint();

  Place next_;
  const std::function<void(Object&&)>* item_;
  std::vector<Open> open_;
  Object outer_;  // the list, while its items are read
  std::string ingress_ip_;
  bool ingress_vip_ = true;
  bool has_address_ = false;
};

bool Reader::start_object(std::size_t) {
  switch (next_) {
    case Place::kItems:
      object = {};
      break;
    case Place::kServicePorts:
      object.service.ports.emplace_back();
      break;
    case Place::kSlicePorts:
      object.slice.ports.emplace_back();
      break;
    case Place::kEndpoints:
      object.slice.endpoints.emplace_back();
      has_address_ = false;
      break;
    case Place::kIngress:
      ingress_ip_.clear();
      ingress_vip_ = true;
      break;
    default:
      break;
  }
  return open(false);
}

bool Reader::end_object() {
  const Place place = open_.back().place;
  open_.pop_back();
  // A list that stands where an object is expected, or the other way round, is left alone: no place is opened twice.
  if (place == Place::kEndpoints) finish_endpoint();
  if (place == Place::kIngress && ingress_vip_) add_ip(ingress_ip_, object.service.external_ips);
  if (place == Place::kObject) finish_object();
  if (place == Place::kItems) {
    finish_object();
    if (item_ != nullptr && *item_) (*item_)(std::move(object));
    object = {};
  }
  next_ = in_list();
  return true;
}

bool Reader::string(std::string& text) {
  ServiceObject& service = object.service;
  SliceObject& slice = object.slice;
  switch (next_) {
    case Place::kEventType:
      type = event_type(text);
      break;
    case Place::kKind:
      object.kind = std::move(text);
      break;
    case Place::kName:
      object.meta.name = std::move(text);
      break;
    case Place::kSpace:
      object.meta.space = std::move(text);
      break;
    case Place::kResourceVersion:
      object.meta.resource_version = std::move(text);
      break;
    case Place::kContinue:
      next_page = std::move(text);
      break;
    case Place::kServiceName:
      object.meta.service_name = std::move(text);
      break;
    case Place::kZoneLabel:
      object.meta.zone = std::move(text);
      break;
    case Place::kProxyName:
      object.meta.foreign_proxy = true;
      break;
    case Place::kOwnAnnotation:
      object.meta.annotations.back().second = std::move(text);
      break;
    case Place::kChangedAt:
      object.meta.changed_at = std::move(text);
      break;
    case Place::kServiceType:
      service.external_name = text == "ExternalName";
      break;
    case Place::kClusterIp:
    case Place::kClusterIps:
      service.headless = service.headless || text == "None";
      add_ip(text, service.cluster_ips);
      break;
    case Place::kExternalIps:
      add_ip(text, service.external_ips);
      break;
    case Place::kIpFamilies:
      service.v4 = service.v4 || text == "IPv4";
      service.v6 = service.v6 || text == "IPv6";
      break;
    case Place::kAffinity:
      service.client_ip_affinity = text == "ClientIP";
      break;
    case Place::kInternalPolicy:
      service.internal_local = text == "Local";
      break;
    case Place::kServicePortName:
      if (!service.ports.empty()) service.ports.back().name = std::move(text);
      break;
    case Place::kServicePortProtocol:
      if (!service.ports.empty()) service.ports.back().protocol = protocol_of(text);
      break;
    case Place::kIngressIp:
      ingress_ip_ = std::move(text);
      break;
    case Place::kIngressMode:
      ingress_vip_ = text == "VIP";
      break;
    case Place::kAddressType:
      slice.type = text == "IPv4" ? AddressType::kV4 : text == "IPv6" ? AddressType::kV6 : AddressType::kOther;
      break;
    case Place::kAddresses:  // all of them are the same to us: the first one counts
      if (SliceEndpoint* const one = endpoint(); one != nullptr && !has_address_) {
        has_address_ = true;
        if (const auto ip = base::IpAddress::parse(text)) one->ip = *ip;
      }
      break;
    case Place::kNode:
      if (endpoint() != nullptr) endpoint()->node = std::move(text);
      break;
    case Place::kZone:
      if (endpoint() != nullptr) endpoint()->zone = std::move(text);
      break;
    case Place::kTargetUid:
      if (endpoint() != nullptr) endpoint()->target = identity_hash(text);
      break;
    case Place::kTargetName:
      if (endpoint() != nullptr) endpoint()->pod = identity_hash(text);
      break;
    case Place::kForZoneName:
      if (endpoint() != nullptr) endpoint()->zone_hints.push_back(std::move(text));
      break;
    case Place::kForNodeName:
      if (endpoint() != nullptr) endpoint()->node_hints.push_back(std::move(text));
      break;
    case Place::kSlicePortName:
      if (!slice.ports.empty()) slice.ports.back().name = std::move(text);
      break;
    case Place::kSlicePortProtocol:
      if (!slice.ports.empty()) slice.ports.back().protocol = protocol_of(text);
      break;
    case Place::kReason:
      object.status.reason = std::move(text);
      break;
    case Place::kMessage:
      object.status.message = std::move(text);
      break;
    default:
      break;
  }
  return true;
}

void Reader::finish_endpoint() {
  SliceEndpoint& one = object.slice.endpoints.back();
  if (one.target == 0) one.target = one.pod;
  if (one.ip.is_unspecified()) object.slice.endpoints.pop_back();
}

void Reader::finish_object() {
  SliceObject& slice = object.slice;
  std::erase_if(slice.endpoints, [&](const SliceEndpoint& one) {
    return slice.type == AddressType::kOther || one.ip.is_v4() != (slice.type == AddressType::kV4);
  });
  slice.endpoints.shrink_to_fit();
  slice.meta = object.meta;
  object.service.meta = object.meta;
}

base::Result<void> parse(std::string_view text, Reader& reader, std::string_view what) {
  if (nlohmann::json::sax_parse(text.begin(), text.end(), &reader)) return {};
  return base::fail(ErrorKind::kInvalid,
                    "read " + std::string(what) + ": " + (reader.error.empty() ? "no JSON" : reader.error),
                    "the server does not speak like a Kubernetes API server");
}

}  // namespace

base::Result<ListMeta> read_list(std::string_view text, const std::function<void(Object&&)>& item) {
  Reader reader(Place::kObject, &item);
  MESH_CHECK(parse(text, reader, "a list"));
  const bool is_list = reader.object.kind.ends_with("List") && reader.has_items;
  // An empty list of a Go server may be "items": null.
  if (!is_list && !(reader.object.kind.ends_with("List") && !reader.object.meta.resource_version.empty())) {
    return base::fail(
        ErrorKind::kInvalid,
        "read a list: the answer is " + (reader.object.kind.empty() ? "no list" : "a " + reader.object.kind),
        "the server does not speak like a Kubernetes API server");
  }
  return ListMeta{reader.object.kind, reader.object.meta.resource_version, reader.next_page};
}

base::Result<Event> read_event(std::string_view text) {
  Reader reader(Place::kEvent, nullptr);
  MESH_CHECK(parse(text, reader, "an event"));
  return Event{reader.type, std::move(reader.object)};
}

base::Result<Object> read_object(std::string_view text) {
  Reader reader(Place::kObject, nullptr);
  MESH_CHECK(parse(text, reader, "an object"));
  return std::move(reader.object);
}

Status read_status(std::string_view text) {
  Reader reader(Place::kObject, nullptr);
  if (!parse(text, reader, "a status") || reader.object.kind != "Status") return {};
  return std::move(reader.object.status);
}

base::Result<void> Framer::feed(std::string_view piece,
                                const std::function<base::Result<void>(std::string_view)>& frame) {
  std::size_t begin = 0;
  for (std::size_t i = 0; i < piece.size(); ++i) {
    const char c = piece[i];
    if (depth_ == 0) {
      begin = i;
      if (c == '{') {
        depth_ = 1;
      } else if (c != ' ' && c != '\n' && c != '\r' && c != '\t') {
        return base::fail(ErrorKind::kInvalid, "read a watch: an event begins with '" + std::string(1, c) + "'",
                          "the server does not speak like a Kubernetes API server");
      }
    } else if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      }
    } else if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++depth_;
    } else if ((c == '}' || c == ']') && --depth_ == 0) {
      const std::string_view last = piece.substr(begin, i + 1 - begin);
      if (begun_.empty()) {
        MESH_CHECK(frame(last));
      } else {
        const std::string whole = std::exchange(begun_, {}).append(last);
        MESH_CHECK(frame(whole));
      }
      begin = i + 1;
    }
  }
  if (depth_ == 0) return {};
  begun_.append(piece.substr(begin));
  if (begun_.size() <= kMaxFrame) return {};
  return base::fail(ErrorKind::kExhausted,
                    "read a watch: an event of more than " + std::to_string(kMaxFrame) + " bytes");
}

std::uint64_t identity_hash(std::string_view text) {
  const std::uint64_t hash = base::hash64({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  return hash == 0 ? 1 : hash;
}

}  // namespace mesh::discovery::kubernetes
