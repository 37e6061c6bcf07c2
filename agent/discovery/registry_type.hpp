// SPDX-License-Identifier: Apache-2.0
// The kinds of registries: how each reads its settings and makes its client. A new kind is one line in
// registry_types.cpp.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "discovery/keys.hpp"
#include "discovery/registry.hpp"
#include "discovery/service_keys.hpp"
#include "model/service.hpp"

namespace mesh::discovery {

/// What a client has to know besides its own settings.
struct RegistryContext {
  std::string source;    ///< Its name in the configuration.
  ServicePolicy policy;  ///< What services start from: `defaults:` of the configuration, then those of the source.
  model::Place here;     ///< Of this agent.
  /// Its services as the agent knew them when this client was made: for what can't be learned at once.
  std::vector<model::ServicePtr> known;
  std::uint64_t seed = 0;  ///< For jitter; differs between agents and sources.
};

struct RegistryType {
  std::string_view name;  ///< `type:` and the key of its settings: "dns"
  std::string_view doc;
  const Table* table = nullptr;
  /// Of the elements of the key `services` of its table, if those are maps; the schema calls them so ("dns_service").
  std::string_view element_name;
  const Table* elements = nullptr;
  /// The registry itself says who is ready: the probe of the configuration's `defaults:` does not hold for its
  /// services, only that of the source's own.
  bool knows_readiness = false;
  std::shared_ptr<void> (*make_settings)() = nullptr;
  /// What no single key can check; `value` is null if nothing is written. Null: nothing is to be checked.
  void (*finish)(Decoder&, const Value& value, void* settings) = nullptr;
  std::unique_ptr<Registry> (*make)(const void* settings, const RegistryContext& context) = nullptr;
};

/// `Make` is std::unique_ptr<Registry>(const Settings&, RegistryContext); `Finish` void(Decoder&, const Value&,
/// Settings&).
template <typename Settings, auto Make, auto Finish>
constexpr RegistryType registry_type(std::string_view name, std::string_view doc, const Table& table,
                                     std::string_view element_name = {}, const Table* elements = nullptr,
                                     bool knows_readiness = false) {
  return {.name = name,
          .doc = doc,
          .table = &table,
          .element_name = element_name,
          .elements = elements,
          .knows_readiness = knows_readiness,
          .make_settings = []() -> std::shared_ptr<void> { return std::make_shared<Settings>(); },
          .finish = [](Decoder& decoder, const Value& value,
                       void* settings) { Finish(decoder, value, *static_cast<Settings*>(settings)); },
          .make = [](const void* settings, const RegistryContext& context) -> std::unique_ptr<Registry> {
            return Make(*static_cast<const Settings*>(settings), context);
          }};
}

/// All kinds, in the order in which they are listed to people.
std::span<const RegistryType* const> registry_types();

}  // namespace mesh::discovery
