// SPDX-License-Identifier: Apache-2.0
// What a Kubernetes API server says, as far as it is of use: Services, EndpointSlices, a Node's zone, and the frames of
// a watch. Parsed as it streams: what isn't looked at (most of it: managedFields, selectors, status) is skipped, never
// stored. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/address.hpp"
#include "base/error.hpp"
#include "model/service.hpp"

namespace mesh::discovery::kubernetes {

/// Annotations with this prefix are ours: "meshd.io/balance: maglev".
inline constexpr std::string_view kAnnotationPrefix = "meshd.io/";

/// Of one frame of a watch; the API server refuses objects beyond 1.5 MiB.
inline constexpr std::size_t kMaxFrame = 8u << 20;
inline constexpr std::size_t kMaxJsonDepth = 64;

using Annotations = std::vector<std::pair<std::string, std::string>>;  ///< Ours, without the prefix.

struct Metadata {
  std::string name;
  std::string space;             ///< Its namespace.
  std::string resource_version;  ///< Opaque.
  std::string service_name;      ///< Label kubernetes.io/service-name.
  std::string zone;              ///< Label topology.kubernetes.io/zone, of a Node.
  std::string changed_at;        ///< Annotation endpoints.kubernetes.io/last-change-trigger-time, RFC 3339.
  bool foreign_proxy = false;    ///< Label service.kubernetes.io/service-proxy-name: not for us.
  Annotations annotations;

  [[nodiscard]] std::string key() const { return space + "/" + name; }
};

struct ServicePort {
  std::string name;  ///< May be empty, if it is the only one.
  std::uint16_t port = 0;
  std::optional<model::Protocol> protocol = model::Protocol::kTcp;  ///< Nothing: one we can't balance.
  bool operator==(const ServicePort&) const = default;
};

struct ServiceObject {
  Metadata meta;
  std::vector<ServicePort> ports;
  std::vector<base::IpAddress> cluster_ips;   ///< None: headless or ExternalName.
  std::vector<base::IpAddress> external_ips;  ///< spec.externalIPs, and load balancers' with ipMode VIP.
  bool headless = false;
  bool external_name = false;
  bool v4 = false;  ///< ipFamilies
  bool v6 = false;
  bool client_ip_affinity = false;
  std::chrono::seconds affinity_timeout{10800};
  bool internal_local = false;  ///< internalTrafficPolicy: Local
};

struct SlicePort {
  std::string name;
  std::uint16_t port = 0;  ///< 0: nil, which means nothing that could be connected to.
  std::optional<model::Protocol> protocol = model::Protocol::kTcp;
};

struct SliceEndpoint {
  base::IpAddress ip;  ///< addresses[0]
  std::string node;
  std::string zone;
  std::uint64_t target = 0;  ///< Hash of what it is: targetRef.uid, or its name; 0: unknown.
  std::uint64_t pod = 0;     ///< Hash of targetRef.name; 0: unknown.
  bool ready = true;
  bool serving = true;
  bool terminating = false;
  std::vector<std::string> zone_hints;
  std::vector<std::string> node_hints;
};

enum class AddressType : std::uint8_t { kV4, kV6, kOther };

struct SliceObject {
  Metadata meta;
  AddressType type = AddressType::kOther;
  std::vector<SlicePort> ports;
  std::vector<SliceEndpoint> endpoints;  ///< Those with an address of the slice's type.
};

/// metav1.Status: why a request or a watch failed.
struct Status {
  int code = 0;
  std::string reason;
  std::string message;
  std::chrono::seconds retry_after{0};  ///< details.retryAfterSeconds
};

/// Whatever an object turned out to be: the fields of a Service and of a slice don't overlap.
struct Object {
  std::string kind;  ///< Empty for the items of a list.
  ServiceObject service;
  SliceObject slice;
  Metadata meta;
  Status status;
};

struct ListMeta {
  std::string kind;              ///< "ServiceList"
  std::string resource_version;  ///< Of the list: where a watch goes on.
  std::string next;              ///< The token `continue`; empty: this was the last page.
};

/// One page of a list; `item` gets each object. kInvalid for what is no list.
base::Result<ListMeta> read_list(std::string_view text, const std::function<void(Object&&)>& item);

enum class EventType : std::uint8_t { kAdded, kModified, kDeleted, kBookmark, kError, kUnknown };

struct Event {
  EventType type = EventType::kUnknown;
  Object object;
};
base::Result<Event> read_event(std::string_view text);

/// An object that stands alone, such as a Node.
base::Result<Object> read_object(std::string_view text);
/// Of an answer without success; what can't be read is left as it is by default.
Status read_status(std::string_view text);

/// Cuts the body of a watch into frames: JSON objects one after the other, whatever is between them and wherever the
/// pieces end.
class Framer {
 public:
  /// `frame` gets each object that is whole now. kInvalid if something else stands where one has to begin, kExhausted
  /// beyond kMaxFrame; and whatever `frame` returns.
  base::Result<void> feed(std::string_view piece, const std::function<base::Result<void>(std::string_view)>& frame);

 private:
  std::string begun_;
  std::size_t depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;
};

/// For Object::target and Object::pod; never 0.
std::uint64_t identity_hash(std::string_view text);

}  // namespace mesh::discovery::kubernetes
