// SPDX-License-Identifier: Apache-2.0
#include "discovery/service_file.hpp"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

#include "base/suggest.hpp"
#include "discovery/json_reader.hpp"
#include "discovery/yaml_reader.hpp"
#include "model/health_view.hpp"

namespace mesh::discovery {
namespace {

/// Hands the elements of the list under `key` to `element`; with `bare`, the document may be that list itself.
void read_list(const Document& document, std::string_view text, std::string_view key, bool bare, Decoder& decoder,
               Findings& findings, const std::function<void(const Value&, std::size_t)>& element) {
  const auto take = [&](std::string_view list_key, std::size_t index, Value& value) {
    if (list_key.empty() ? !bare : list_key != key) return;
    const auto read = [&](const Value& item) { element(item, index); };
    if (list_key.empty()) {
      decoder.element(value, index, read);
    } else {
      decoder.under(key, [&] { decoder.element(value, index, read); });
    }
  };
  std::optional<Value> root;
  if (is_yaml_path(document.file())) {
    root = read_yaml(document, text, findings);
    if (!root) return;
    if (root->kind == Value::Kind::kList) {
      for (std::size_t i = 0; i < root->items.size(); ++i) take("", i, root->items[i]);
    } else if (const Value* list = root->find(key); list != nullptr) {
      for (std::size_t i = 0; i < list->items.size(); ++i) take(key, i, const_cast<Value&>(list->items[i]));
    }
  } else if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    findings.add_error(
        {document.file(), 0, 0, "", "the file is empty", "write {\"" + std::string(key) + "\": []} if there are none"});
    return;
  } else {
    root = read_json(document, text, take, findings);
    if (!root) return;
  }
  if (root->kind == Value::Kind::kList && bare) return;
  const std::string shape = "{\"" + std::string(key) + "\": [...]}";
  if (root->kind != Value::Kind::kMap) {
    decoder.error(*root, "must be a map with the key '" + std::string(key) + "'", "write " + shape);
    return;
  }
  const std::array<std::string_view, 1> known = {key};
  for (const Value& item : root->items) {
    decoder.under(item.key, [&] {
      if (item.key != key) {
        decoder.error_at(item.key_place, "unknown key", base::suggest_name(item.key, known));
      } else {
        decoder.is_list(item);
      }
    });
  }
  if (root->find(key) == nullptr)
    decoder.error(*root, "the key '" + std::string(key) + "' is missing", "write " + shape);
}

}  // namespace

bool is_yaml_path(std::string_view path) { return path.ends_with(".yaml") || path.ends_with(".yml"); }

bool is_service_path(std::string_view path) {
  const std::string_view name = path.substr(path.rfind('/') + 1);
  return !name.starts_with('.') && (name.ends_with(".json") || is_yaml_path(name));
}

void check_against_each_other(const std::vector<PlacedService>& services, Findings& findings) {
  std::unordered_map<model::Frontend, const PlacedService*, model::FrontendHash> first;
  first.reserve(services.size());
  const auto report = [&](const PlacedService& placed, std::string_view key, std::string message,
                          std::string suggestion) {
    const Place at = placed.document->resolve(placed.place);
    findings.add_error({placed.document->file(), static_cast<int>(at.line), static_cast<int>(at.column),
                        "services[" + std::to_string(placed.index) + "]." + std::string(key), std::move(message),
                        std::move(suggestion)});
  };
  for (const PlacedService& placed : services) {
    const auto [entry, added] = first.emplace(placed.service->frontend, &placed);
    if (added) continue;
    const model::Service& other = *entry->second->service;
    report(placed, "address",
           placed.service->frontend.to_string() + " is the address of service " + other.name + " (" + other.origin +
               ") already",
           "one address, port and protocol is one service");
  }
  for (const PlacedService& placed : services) {
    for (const model::Endpoint& endpoint : placed.service->endpoints) {
      const auto found = first.find(model::Frontend{endpoint.address, placed.service->frontend.protocol});
      if (found == first.end() || found->second == &placed) continue;  // its own was found where it was read
      const model::Service& other = *found->second->service;
      report(placed, "endpoints",
             endpoint.address.to_string() + " is the address of service " + other.name + " (" + other.origin + ")",
             "name the servers' own addresses: a service can't be the endpoint of another");
    }
  }
}

namespace {

bool by_frontend(const model::ServicePtr& a, const model::ServicePtr& b) { return a->frontend < b->frontend; }

bool by_hash(const KnownElement& a, const KnownElement& b) { return a.hash < b.hash; }

/// One element: its services get the line that they have in the whole file.
bool parse_element(const std::string& path, std::string_view slice, std::uint32_t line, const ServicePolicy& defaults,
                   KnownElement& element) {
  Findings findings;
  const Document document(path, slice);
  Decoder decoder(document, findings);
  ServiceDecoder services(decoder, defaults, ServiceDecoder::FileKey::kRefused, path);
  const auto value = read_json(document, slice, nullptr, findings);
  auto decoded = value ? services.service(*value) : std::nullopt;
  if (!decoded || findings.error_count() > 0) return false;
  for (std::size_t i = 0; i < decoded->services.size(); ++i) {
    model::Service& service = decoded->services[i];
    service.origin = path + ":" + std::to_string(line);
    element.services[i] = std::make_shared<const model::Service>(std::move(service));
  }
  return true;
}

/// The shortcut. Nothing if the file has another shape or anything is wrong: then the whole parser says what.
std::optional<ParsedFile> parse_changed_elements(const std::string& path, std::string_view text,
                                                 const ServicePolicy& defaults,
                                                 const std::vector<KnownElement>& known) {
  const auto slices = slice_elements(text, "services");
  if (!slices) return std::nullopt;
  ParsedFile parsed;
  const Document document(path, text);
  std::vector<PlacedService> placed;
  parsed.known.reserve(slices->size());
  placed.reserve(slices->size());
  for (const std::string_view slice : *slices) {
    KnownElement& element = parsed.known.emplace_back(SliceHash(slice), std::array<model::ServicePtr, 2>{});
    const auto found = std::lower_bound(known.begin(), known.end(), element, by_hash);
    if (found != known.end() && found->hash == element.hash) {
      element.services = found->services;
    } else {
      const Place start{0, static_cast<std::uint32_t>(slice.data() - text.data())};
      if (!parse_element(path, slice, document.resolve(start).line, defaults, element)) return std::nullopt;
    }
    for (const model::ServicePtr& service : element.services) {
      if (service) placed.push_back({service, &document, {}, 0});
    }
  }
  check_against_each_other(placed, parsed.findings);
  if (!parsed.good()) return std::nullopt;
  parsed.services.reserve(placed.size());
  for (PlacedService& service : placed) parsed.services.push_back(std::move(service.service));
  std::sort(parsed.services.begin(), parsed.services.end(), by_frontend);
  std::sort(parsed.known.begin(), parsed.known.end(), by_hash);
  return parsed;
}

}  // namespace

ParsedFile parse_services(const std::string& path, std::string_view text, const ServicePolicy& defaults,
                          const std::vector<KnownElement>& known) {
  if (!known.empty()) {
    if (auto shortcut = parse_changed_elements(path, text, defaults, known)) return std::move(*shortcut);
  }
  ParsedFile parsed;
  const Document document(path, text);
  Decoder decoder(document, parsed.findings);
  ServiceDecoder services(decoder, defaults, ServiceDecoder::FileKey::kRefused, path);
  std::vector<PlacedService> placed;
  read_list(document, text, "services", false, decoder, parsed.findings, [&](const Value& value, std::size_t index) {
    auto decoded = services.service(value);
    if (!decoded) return;
    for (model::Service& service : decoded->services) {
      placed.push_back(
          {std::make_shared<const model::Service>(std::move(service)), &document, decoded->address_place, index});
    }
  });
  check_against_each_other(placed, parsed.findings);
  if (!parsed.good()) return parsed;
  if (const auto slices = is_yaml_path(path) ? std::nullopt : slice_elements(text, "services")) {
    for (const std::string_view slice : *slices) parsed.known.push_back({SliceHash(slice), {}});
    for (const PlacedService& service : placed) {
      auto& pair = parsed.known[service.index].services;
      (pair[0] ? pair[1] : pair[0]) = service.service;
    }
    std::sort(parsed.known.begin(), parsed.known.end(), by_hash);
  }
  parsed.services.reserve(placed.size());
  for (PlacedService& service : placed) parsed.services.push_back(std::move(service.service));
  std::sort(parsed.services.begin(), parsed.services.end(), by_frontend);
  return parsed;
}

ParsedFile parse_endpoints(const std::string& path, std::string_view text,
                           const std::vector<model::ServicePtr>& settings) {
  MESH_ASSERT(!settings.empty());
  ParsedFile parsed;
  const Document document(path, text);
  Decoder decoder(document, parsed.findings);
  const ServicePolicy no_defaults;
  ServiceDecoder reader(decoder, no_defaults, ServiceDecoder::FileKey::kRefused, path);
  std::vector<model::Endpoint> endpoints;
  std::vector<Place> places;
  const base::SocketAddress& frontend = settings.front()->frontend.address;
  read_list(document, text, "endpoints", true, decoder, parsed.findings, [&](const Value& value, std::size_t) {
    model::Endpoint endpoint;
    if (!reader.endpoint(value, endpoint)) return;
    const Value* const written = value.find("address");
    if (const auto problem = endpoint_problem(endpoint.address, frontend)) {
      decoder.error(written != nullptr ? *written : value, problem->first, problem->second);
    }
    endpoints.push_back(endpoint);
    places.push_back(value.place);
  });
  if (!parsed.good()) return parsed;
  std::vector<model::Endpoint> sorted = endpoints;
  if (const auto twice = sort_endpoints(sorted)) {
    std::size_t last = endpoints.size() - 1;
    while (endpoints[last].address != *twice) --last;
    decoder.error_at(places[last], "endpoint " + twice->to_string() + " stands twice", "remove one of them");
    return parsed;
  }
  for (const model::ServicePtr& service : settings) {
    model::Service with_endpoints = *service;
    with_endpoints.endpoints = sorted;
    parsed.services.push_back(std::make_shared<const model::Service>(std::move(with_endpoints)));
  }
  std::sort(parsed.services.begin(), parsed.services.end(), by_frontend);
  return parsed;
}

}  // namespace mesh::discovery
