// SPDX-License-Identifier: Apache-2.0
// The JSON Schema, generated from the tables that the decoder reads.
#include <nlohmann/json.hpp>

#include "app/acme_keys.hpp"
#include "app/config_keys.hpp"
#include "app/identity_keys.hpp"
#include "app/relay_keys.hpp"
#include "discovery/ejection_keys.hpp"
#include "discovery/probe_keys.hpp"
#include "discovery/service_keys.hpp"
#include "discovery/service_tls_keys.hpp"
#include "discovery/source_keys.hpp"

namespace mesh::app {

using discovery::Key;
using discovery::KeyType;
using discovery::Table;
using discovery::Value;
using Json = nlohmann::ordered_json;

namespace {

constexpr std::string_view kDurationPattern = "^(0|([0-9]+(ns|us|ms|s|m|h|d))+)$";

Json object_schema(const Table& table);

Json key_schema(const Key& key, const Table& owner) {
  Json schema = Json::object();
  switch (key.type) {
    case KeyType::kString:
    case KeyType::kAddress:
      schema["type"] = "string";
      break;
    case KeyType::kBool:
      schema["type"] = "boolean";
      break;
    case KeyType::kInteger:
      schema["type"] = "integer";
      schema["minimum"] = key.min;
      schema["maximum"] = key.max;
      break;
    case KeyType::kDuration:
      schema["type"] = {"string", "integer"};  // only 0 is a duration without a unit
      schema["pattern"] = kDurationPattern;
      schema["maximum"] = 0;
      break;
    case KeyType::kChoice:
      schema["enum"] = key.names;
      break;
    case KeyType::kStrings:
      schema["type"] = "array";
      schema["items"] = {{"type", "string"}};
      break;
    case KeyType::kTable:
      schema = object_schema(*key.table);
      break;
    case KeyType::kCustom:
      schema = Json::parse(key.schema);
      break;
  }
  schema["description"] = key.doc;
  if (owner.defaults != nullptr && key.type != KeyType::kTable && !key.required) {
    const Value value = key.encode(key, owner.defaults, discovery::Secrets::kReveal);
    std::string text;
    write_json(value, text, discovery::JsonStyle::kCompact);
    if (value.kind != Value::Kind::kNull) schema["default"] = Json::parse(text);
  }
  return schema;
}

void add_keys(const Table& table, Json& properties, Json& required) {
  for (const Key& key : table.keys) {
    properties[std::string(key.name)] = key_schema(key, table);
    if (key.required) required.push_back(key.name);
  }
  if (table.base != nullptr) add_keys(*table.base, properties, required);
}

Json object_schema(const Table& table) {
  Json properties = Json::object();
  Json required = Json::array();
  add_keys(table, properties, required);
  Json schema = {{"type", "object"}, {"additionalProperties", false}, {"properties", std::move(properties)}};
  if (!required.empty()) schema["required"] = std::move(required);
  return schema;
}

void list_keys(const Table& table, const std::string& prefix, std::vector<std::string>& names) {
  for (const Key& key : table.keys) {
    const std::string name = prefix + std::string(key.name);
    names.push_back(name);
    if (key.type == KeyType::kTable) list_keys(*key.table, name + ".", names);
    if (key.name == "ejection") list_keys(discovery::kEjectionTable, name + ".", names);
    if (key.name == "tls" && key.type == KeyType::kCustom) list_keys(discovery::kServiceTlsTable, name + ".", names);
    if (key.name == "probe") list_keys(discovery::kProbeTable, name + ".", names);
    if (key.name == "endpoints") list_keys(discovery::kEndpointTable, name + ".", names);
    if (key.name == "services" && prefix.empty()) list_keys(discovery::kServiceTable, name + ".", names);
    if (key.name == "listeners") list_keys(kListenerTable, name + ".", names);
    if (key.name == "routes") list_keys(kNameRouteTable, name + ".", names);
    if (&table == &kAcmeTable && key.name == "certificates") list_keys(kAcmeCertificateTable, name + ".", names);
    if (&table != &kAcmeTable && key.name == "certificates") list_keys(kCertificateTable, name + ".", names);
    if (key.name == "identities") list_keys(kIdentityTable, name + ".", names);
    if (key.name == "trust") list_keys(kTrustTable, name + ".", names);
    if (key.name == "services" && name.starts_with("relay.")) list_keys(kMeshServiceTable, name + ".", names);
    if (key.name == "sources" && prefix.empty()) list_keys(discovery::source_table(), name + ".", names);
    for (const discovery::RegistryType* type : discovery::registry_types()) {
      if (type->elements != nullptr && &table == type->table && key.name == "services") {
        list_keys(*type->elements, name + ".", names);
      }
    }
  }
  if (table.base != nullptr) list_keys(*table.base, prefix, names);
}

}  // namespace

std::string config_schema() {
  Json schema = {{"$schema", "http://json-schema.org/draft-07/schema#"}, {"title", "meshd.yaml"}};
  schema.update(object_schema(kRootTable));
  Json service = object_schema(discovery::kServiceTable);
  service["oneOf"] = {{{"required", {"endpoints"}}}, {{"required", {"file"}}}};
  schema["definitions"] = {{"probe", object_schema(discovery::kProbeTable)},
                           {"ejection", object_schema(discovery::kEjectionTable)},
                           {"service_tls", object_schema(discovery::kServiceTlsTable)},
                           {"endpoint", object_schema(discovery::kEndpointTable)},
                           {"source", object_schema(discovery::source_table())},
                           {"service", std::move(service)},
                           {"listener", object_schema(kListenerTable)},
                           {"route", object_schema(kNameRouteTable)},
                           {"certificate", object_schema(kCertificateTable)},
                           {"trust_bundle", object_schema(kTrustTable)},
                           {"mesh_service", object_schema(kMeshServiceTable)},
                           {"client_identity", object_schema(kIdentityTable)},
                           {"acme_certificate", object_schema(kAcmeCertificateTable)}};
  for (const discovery::RegistryType* type : discovery::registry_types()) {
    if (type->elements != nullptr) {
      schema["definitions"][std::string(type->element_name)] = object_schema(*type->elements);
    }
  }
  return schema.dump(2) + "\n";
}

std::vector<std::string> config_keys() {
  std::vector<std::string> names;
  list_keys(kRootTable, "", names);
  return names;
}

}  // namespace mesh::app
