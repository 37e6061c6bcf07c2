// SPDX-License-Identifier: Apache-2.0
// Instances of a registry as a service of the mesh: what is the same for registries that know instances with metadata.
// Pure.
//
//   meshd-weight   0 to 65535
//   meshd-balance  as `balance` in the configuration
//   meshd-probe    none, tcp, http, https, grpc; http:/path, https:/path, grpc:SERVICE
//   meshd-port     port of the frontend
//
// What concerns the whole service is taken from the instance that was changed last.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "discovery/service_keys.hpp"
#include "model/service.hpp"

namespace mesh::discovery {

struct Instance {
  std::string label;    ///< For people: "instance a:8080 of app ORDERS".
  std::string address;  ///< IP address, or what is none and is left out with a note.
  std::int64_t port = 0;
  std::uint16_t weight = 1;
  bool weight_is_fixed = false;  ///< meshd-weight does not count: the registry says it must not get its usual share.
  bool draining = false;
  unsigned rank = 0;  ///< Of two with one address the one with the lower rank counts.
  std::uint8_t tier = 0;
  std::string zone;
  std::string node;
  std::vector<std::pair<std::string, std::string>> meta;  ///< "meshd-..."
  std::uint64_t changed = 0;                              ///< The higher, the later.

  [[nodiscard]] std::string_view meta_value(std::string_view key) const;  ///< Empty: none.
};

/// As what a set of instances is published.
struct InstancesAs {
  std::string name;        ///< A service's name; see name_in_mesh(). Empty: nothing is mapped, with a note.
  std::string origin;      ///< Where in the registry.
  std::string address;     ///< IP address of the frontend; empty: by name, from the agent's range.
  std::uint16_t port = 0;  ///< Of the frontend; 0: what instances say, else that of most.
  model::Protocol protocol = model::Protocol::kTcp;
};

/// What a service keeps when its instances no longer say it.
struct InstancesKept {
  std::uint16_t port = 0;  ///< Of its frontend; 0: not known yet.
  bool v4 = false;         ///< Its families.
  bool v6 = false;
  bool operator==(const InstancesKept&) const = default;
};

struct InstancesMapped {
  std::vector<model::Service> services;  ///< One per family; none while the port of the frontend is not known.
  std::vector<std::string> notes;        ///< What was left out or ignored, and why; for people.
};

class InstanceMapper {
 public:
  explicit InstanceMapper(ServicePolicy defaults) : defaults_(std::move(defaults)) {}

  InstancesMapped map(const InstancesAs& as, std::span<const Instance> instances, InstancesKept& kept);

 private:
  void set_probe(std::string_view text, model::Service& service, std::vector<std::string>& notes);

  ServicePolicy defaults_;
  std::map<std::string, std::shared_ptr<const model::ProbePolicy>, std::less<>> probes_;  // by what is written
};

/// What stands for an address that the agent gives.
base::IpAddress any_address(bool v4);

/// The name of a registry as that of a service: in lower case; empty if it has other characters than such names may.
std::string name_in_mesh(std::string_view name);

}  // namespace mesh::discovery
