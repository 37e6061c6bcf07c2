// SPDX-License-Identifier: Apache-2.0
// docs/configuration.md and the JSON Schema against the tables that the decoder reads.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "app/acme_keys.hpp"
#include "app/config_keys.hpp"
#include "app/identity_keys.hpp"
#include "app/relay_keys.hpp"
#include "base/duration.hpp"
#include "base/fd.hpp"
#include "discovery/drain_keys.hpp"
#include "discovery/ejection_keys.hpp"
#include "discovery/probe_keys.hpp"
#include "discovery/service_keys.hpp"
#include "discovery/service_tls_keys.hpp"
#include "discovery/source_keys.hpp"

namespace mesh::app {
namespace {

using discovery::Key;
using discovery::KeyType;
using discovery::Table;
using discovery::Value;

std::string values_of(const Key& key) {
  const auto duration = [](std::int64_t nanoseconds) { return base::format_duration(base::Duration{nanoseconds}); };
  switch (key.type) {
    case KeyType::kString:
      return "text";
    case KeyType::kBool:
      return "true, false";
    case KeyType::kInteger:
      return fmt::format("{} to {}", key.min, key.max);
    case KeyType::kDuration:
      return duration(key.min) + " to " + duration(key.max);
    case KeyType::kChoice:
      return fmt::format("{}", fmt::join(key.names, ", "));
    case KeyType::kAddress:
      return "address:port";
    case KeyType::kStrings:
      return "list of text";
    case KeyType::kTable:
      return "keys below";
    case KeyType::kCustom:
      return "see below";
  }
  return "";
}

std::string default_of(const Key& key, const Table& table) {
  if (key.required) return "required";
  if (table.defaults == nullptr || key.type == KeyType::kTable) return "";
  const Value value = key.encode(key, table.defaults, discovery::Secrets::kReveal);
  if (value.kind == Value::Kind::kNull) return "";
  std::string text;
  write_json(value, text, discovery::JsonStyle::kCompact);
  return "`" + (value.kind == Value::Kind::kString && !value.text.empty() ? value.text : text) + "`";
}

/// The line of the page that describes a key.
std::string row(const Key& key, const Table& table) {
  return fmt::format("| `{}` | {} | {} | {} |", key.name, values_of(key), default_of(key, table), key.doc);
}

std::string page() {
  // Tests run somewhere below the source tree, which __FILE__ is relative to.
  for (auto folder = std::filesystem::current_path(); folder.has_relative_path(); folder = folder.parent_path()) {
    const auto path = folder / "docs" / "configuration.md";
    if (std::filesystem::exists(path)) return base::read_file(path.string(), 1 << 20).value_or("");
  }
  return "";
}

/// The part of the page below a heading, up to the next one.
std::string section(const std::string& text, const std::string& heading) {
  const auto start = text.find("\n" + heading + "\n");
  if (start == std::string::npos) return "";
  const auto end = text.find("\n#", start + heading.size());
  return text.substr(start, end - start);
}

TEST(ConfigurationPage, describes_every_key_as_the_decoder_knows_it) {
  const std::string text = page();
  if (text.empty()) GTEST_SKIP() << "SKIPPED: docs/configuration.md is not above the working directory";
  const auto check = [&](const std::string& heading, const Table& table) {
    const std::string part = section(text, heading);
    EXPECT_FALSE(part.empty()) << "no heading: " << heading;
    for (const Key& key : table.keys) {
      EXPECT_NE(part.find(row(key, table)), std::string::npos) << "missing below '" << heading << "':\n"
                                                               << row(key, table);
    }
  };
  check("## The file", kRootTable);
  check("## agent", kAgentTable);
  for (const Key& key : kAgentTable.keys) {
    if (key.type == KeyType::kTable) check("### agent." + std::string(key.name), *key.table);
  }
  check("## defaults", discovery::kPolicyTable);
  check("### When connections are ended", discovery::kDrainTable);
  check("## services", discovery::kServiceTable);
  check("### endpoints", discovery::kEndpointTable);
  check("### probe", discovery::kProbeTable);
  check("### ejection", discovery::kEjectionTable);
  check("### tls", discovery::kServiceTlsTable);
  check("## relay", kRelayTable);
  for (const Key& key : kRelayTable.keys) {
    if (key.type == KeyType::kTable) check("### relay." + std::string(key.name), *key.table);
  }
  check("### relay.acme.certificates", kAcmeCertificateTable);
  check("### relay.acme.eab", kAcmeBindingTable);
  check("### relay.listeners", kListenerTable);
  check("### relay.listeners.routes", kNameRouteTable);
  check("### relay.listeners.tls.certificates", kCertificateTable);
  for (const Key& key : kListenerTable.keys) {
    if (key.type == KeyType::kTable) check("### relay.listeners." + std::string(key.name), *key.table);
  }
  const auto mesh = std::ranges::find(kRelayTable.keys, "mesh", &Key::name);
  ASSERT_NE(mesh, kRelayTable.keys.end());
  check("### relay.mesh", *mesh->table);
  check("### relay.mesh.trust", kTrustTable);
  check("### relay.identities", kIdentityTable);
  check("### relay.identities.identity", kCertificateTable);
  check("### relay.mesh.services", kMeshServiceTable);
  for (const Key& key : mesh->table->keys) {
    if (key.type == KeyType::kTable) check("### relay.mesh." + std::string(key.name), *key.table);
  }
  check("## sources", discovery::source_table());
  for (const discovery::RegistryType* type : discovery::registry_types()) {
    check("### sources." + std::string(type->name), *type->table);
    if (type->elements != nullptr) check("### sources." + std::string(type->name) + ".services", *type->elements);
  }
}

/// Follows "#/definitions/x"; a key has a schema if `properties` names it.
const nlohmann::json* find_schema(const nlohmann::json& root, const std::string& dotted) {
  const nlohmann::json* at = &root;
  for (std::size_t start = 0; start <= dotted.size();) {
    const std::size_t end = std::min(dotted.find('.', start), dotted.size());
    const std::string name = dotted.substr(start, end - start);
    if (at->contains("items")) at = &(*at)["items"];
    if (at->contains("oneOf") && !at->contains("properties")) at = &(*at)["oneOf"].back();
    if (at->contains("$ref")) at = &root["definitions"][(*at)["$ref"].get<std::string>().substr(14)];
    if (!at->contains("properties") || !(*at)["properties"].contains(name)) return nullptr;
    at = &(*at)["properties"][name];
    start = end + 1;
  }
  return at;
}

TEST(ConfigSchema, has_every_key_with_a_description) {
  const auto schema = nlohmann::json::parse(config_schema());
  EXPECT_EQ(schema["$schema"], "http://json-schema.org/draft-07/schema#");
  const auto keys = config_keys();
  EXPECT_GT(keys.size(), 80u);
  for (const std::string& key : keys) {
    const nlohmann::json* found = find_schema(schema, key);
    // An element that is one of several shapes (an endpoint is an address or a map) is looked up by its definition.
    if (found == nullptr && key.starts_with("services.endpoints.")) {
      found = find_schema(schema["definitions"]["endpoint"], key.substr(19));
    }
    ASSERT_NE(found, nullptr) << key;
    EXPECT_TRUE(found->contains("description")) << key;
  }
}

TEST(ConfigSchema, refuses_unknown_keys_everywhere) {
  const std::function<void(const nlohmann::json&)> check = [&](const nlohmann::json& schema) {
    if (schema.is_object() && schema.contains("properties")) {
      EXPECT_EQ(schema.value("additionalProperties", true), false);
    }
    for (const auto& child : schema) {
      if (child.is_structured()) check(child);
    }
  };
  check(nlohmann::json::parse(config_schema()));
}

}  // namespace
}  // namespace mesh::app
