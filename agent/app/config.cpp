// SPDX-License-Identifier: Apache-2.0
#include "app/config.hpp"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <deque>
#include <memory>
#include <unordered_map>

#include "app/config_keys.hpp"
#include "app/relay_keys.hpp"
#include "base/fd.hpp"
#include "discovery/json_reader.hpp"
#include "discovery/service_file.hpp"
#include "discovery/yaml_reader.hpp"

namespace mesh::app {

using discovery::Decoder;
using discovery::Document;
using discovery::Findings;
using discovery::PlacedService;
using discovery::ServiceDecoder;
using discovery::Value;

namespace {

constexpr std::size_t kMaxFragments = 1000;  ///< Files in conf.d.
constexpr std::size_t kMaxFiles = 10'000;    ///< Entries of `files:`, and services with a `file:`.

/// A file between being parsed and being decoded; its Values point into nothing else.
struct Parsed {
  Parsed(const ConfigText& source, Findings& findings)
      : document(source.file, source.text), decoder(document, findings) {}
  Document document;
  Decoder decoder;
  std::optional<Value> root;
  Sections sections;
  std::string origin;
};

/// Decodes all files of one configuration.
class ConfigReader {
 public:
  ConfigReader(Config& config, Findings& findings) : config_(config), findings_(findings) {}

  void parse(const ConfigText& text) {
    Parsed& file = files_.emplace_back(text, findings_);
    file.origin = text.origin;
    config_.read_files.push_back(text.file);
    file.root = discovery::read_yaml(file.document, text.text, findings_);
    if (!file.root) return;
    file.decoder.table(kRootTable, *file.root, &file.sections);
    if (const Value* version = file.sections.api_version; version != nullptr && version->text != kApiVersion) {
      file.decoder.under("apiVersion", [&] {
        file.decoder.error(*version, "unknown version '" + version->text + "'", "write " + std::string(kApiVersion));
      });
    }
  }

  void decode() {
    if (files_.empty()) return;
    once(&Sections::agent, "agent", [&](Parsed& file, const Value& value) {
      file.decoder.table(kAgentTable, value, &config_.agent);
      finish_agent_settings(file.decoder, value, config_.agent);
    });
    const bool all_read = std::ranges::all_of(files_, [](const Parsed& file) { return file.root.has_value(); });
    if (!has_agent_ && all_read) {  // otherwise it may stand in what can't be read
      files_.front().decoder.error(*files_.front().root, "the key 'agent' is missing",
                                   "write agent: {cgroups: [/system.slice/shop.service]}; [/] is the whole host");
    }
    once(&Sections::defaults, "defaults", [&](Parsed& file, const Value& value) {
      ServiceDecoder services(file.decoder, config_.defaults, ServiceDecoder::FileKey::kRefused, file.origin);
      file.decoder.context = &services;
      file.decoder.table(discovery::kPolicyTable, value, &config_.defaults);
    });
    once(&Sections::relay, "relay",
         [&](Parsed& file, const Value& value) { decode_relay(file.decoder, value, config_.relay); });
    for (Parsed& file : files_) decode_services(file);
    for (Parsed& file : files_) decode_files(file);
    for (Parsed& file : files_) {
      if (file.sections.sources == nullptr) continue;
      file.decoder.under("sources", [&] {
        discovery::decode_sources(file.decoder, *file.sections.sources, config_.defaults, config_.sources);
      });
    }
    discovery::check_against_each_other(placed_, findings_);
    check_canary();
    std::sort(config_.services.begin(), config_.services.end(),
              [](const auto& a, const auto& b) { return a->frontend < b->frontend; });
  }

 private:
  template <typename Read>
  void once(const Value* Sections::* section, std::string_view name, Read&& read) {
    const Parsed* first = nullptr;
    for (Parsed& file : files_) {
      const Value* const value = file.sections.*section;
      if (value == nullptr) continue;
      file.decoder.under(name, [&] {
        if (first != nullptr) {
          file.decoder.error_at(value->key_place, "stands in " + first->document.file() + " already",
                                "keep it in one file");
        } else {
          if (name == "agent") has_agent_ = true;
          read(file, *value);
        }
      });
      if (first == nullptr) first = &file;
    }
  }

  void decode_services(Parsed& file) {
    const Value* const list = file.sections.services;
    if (list == nullptr || list->kind == Value::Kind::kNull) return;
    ServiceDecoder services(file.decoder, config_.defaults, ServiceDecoder::FileKey::kAllowed, file.origin);
    file.decoder.under("services", [&] {
      if (!file.decoder.is_list(*list)) return;
      std::size_t index = 0;
      file.decoder.each(*list, [&](const Value& value) { add_service(file, services.service(value), index++); });
    });
  }

  void add_service(Parsed& file, std::optional<ServiceDecoder::Decoded> decoded, std::size_t index) {
    if (!decoded) return;
    for (model::Service& service : decoded->services) {
      auto pointer = std::make_shared<const model::Service>(std::move(service));
      placed_.push_back({pointer, &file.document, decoded->address_place, index});
      if (decoded->file.empty()) {
        config_.services.push_back(std::move(pointer));
      } else {
        config_.files.push_back({decoded->file, std::move(pointer)});
      }
    }
  }

  void decode_files(Parsed& file) {
    const Value* const list = file.sections.files;
    if (list == nullptr || list->kind == Value::Kind::kNull) return;
    file.decoder.under("files", [&] {
      if (!file.decoder.is_list(*list)) return;
      file.decoder.each(*list, [&](const Value& value) {
        std::string path;
        if (!file.decoder.string(discovery::Key{}, value, path)) return;
        while (path.size() > 1 && path.ends_with('/')) path.pop_back();
        const auto same = [&](const FileReference& other) { return other.path == path; };
        if (!path.starts_with('/')) {
          file.decoder.error(value, "a path starts with /");
        } else if (const auto other = std::find_if(config_.files.begin(), config_.files.end(), same);
                   other != config_.files.end()) {
          file.decoder.error(
              value, path + (other->service ? " is the file of service " + other->service->name : " stands twice"),
              "remove one of them");
        } else if (config_.files.size() >= kMaxFiles) {
          file.decoder.error(value, "more than " + std::to_string(kMaxFiles) + " files", "name their folder instead");
        } else {
          config_.files.push_back({path, nullptr});
        }
      });
    });
  }

  void check_canary() {
    const auto canary4 = base::IpAddress::parse(config_.agent.canary.address4);
    const auto canary6 = base::IpAddress::parse(config_.agent.canary.address6);
    for (const PlacedService& placed : placed_) {
      const base::IpAddress& ip = placed.service->frontend.address.ip;
      if (ip != *canary4 && ip != *canary6) continue;
      const discovery::Place at = placed.document->resolve(placed.place);
      findings_.add_error({placed.document->file(), static_cast<int>(at.line), static_cast<int>(at.column),
                           "services[" + std::to_string(placed.index) + "].address",
                           ip.to_string() + " is the canary's own address",
                           "use another, or set agent.canary.address4 or address6"});
    }
  }

  Config& config_;
  Findings& findings_;
  std::deque<Parsed> files_;
  std::vector<PlacedService> placed_;
  bool has_agent_ = false;
};

LoadResult finish(Config config, Findings findings) {
  if (findings.dropped > 0) {
    findings.errors.push_back(
        {"", 0, 0, "", std::to_string(findings.dropped) + " more errors", "correct the first ones"});
  }
  return {std::move(config), std::move(findings.errors), std::move(findings.warnings)};
}

/// conf.d/*.yaml beside the main file, sorted. An absent folder is fine.
std::vector<std::string> fragments_of(const std::string& folder, Findings& findings) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> listing(::opendir(folder.c_str()), &::closedir);
  if (!listing) {
    if (errno != ENOENT)
      findings.add_error({folder, 0, 0, "", base::fail_errno(errno, "open the folder").error().message, ""});
    return names;
  }
  while (const dirent* entry = ::readdir(listing.get())) {
    const std::string name = entry->d_name;
    if (!name.starts_with('.') && discovery::is_yaml_path(name)) names.push_back(name);
  }
  if (names.size() > kMaxFragments) {
    findings.add_error(
        {folder, 0, 0, "", "more than " + std::to_string(kMaxFragments) + " files", "put services into watched files"});
    names.clear();
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool read_text(const std::string& path, std::string origin, std::vector<ConfigText>& texts, Findings& findings) {
  auto content = base::read_file(path, discovery::kMaxYamlBytes);
  if (!content) {
    const auto remedy = [&]() -> std::string {
      switch (content.error().kind) {
        case base::ErrorKind::kExhausted:
          return "put the services into JSON files and name them in 'files:'";
        case base::ErrorKind::kNotFound:
          return "write it, or name another file; docs/configuration.md has every key";
        case base::ErrorKind::kPermission:
          return "run this as root, or let its user read the file";
        default:
          return "name a file that can be read";
      }
    };
    findings.add_error({path, 0, 0, "", content.error().message, remedy()});
    return false;
  }
  texts.push_back({path, std::move(origin), std::move(*content)});
  return true;
}

}  // namespace

base::Error LoadResult::error() const {
  Findings findings;
  findings.errors = errors;
  return findings.to_error();
}

LoadResult parse_config(const std::vector<ConfigText>& files) {
  Config config;
  Findings findings;
  {
    ConfigReader reader(config, findings);
    for (const ConfigText& file : files) reader.parse(file);
    reader.decode();
  }
  return finish(std::move(config), std::move(findings));
}

LoadResult load_config(const std::string& path) {
  const std::size_t name = path.rfind('/') + 1;  // 0 without a slash
  const std::string folder = path.substr(0, name) + "conf.d";
  std::vector<ConfigText> texts;
  Findings unreadable;
  bool complete = read_text(path, path.substr(name), texts, unreadable);
  for (const std::string& fragment : fragments_of(folder, unreadable)) {
    complete = read_text(folder + "/" + fragment, "conf.d/" + fragment, texts, unreadable) && complete;
  }
  if (unreadable.error_count() > 0) {
    LoadResult result = finish({}, std::move(unreadable));
    for (const ConfigText& text : texts) result.config.read_files.push_back(text.file);
    return result;
  }
  LoadResult result = parse_config(texts);
  for (const FileReference& reference : result.config.files) {
    struct stat status{};
    if (::stat(reference.path.c_str(), &status) == 0) continue;
    result.warnings.push_back(
        {reference.path, 0, 0, "", "the file does not exist yet", "its services have no endpoints until it does"});
  }
  return result;
}

std::string_view default_config_text() {
  return R"(# meshd, first start: attached to a cgroup of its own, so that nothing changes for anybody.
# Run a command in it: meshctl run --as meshd.apps -- curl http://240.64.0.10
apiVersion: meshd/v1
agent: {cgroups: [/meshd.apps]}
defaults: {balance: round_robin, probe: {type: tcp}}
services: []
)";
}

std::string encode_agent_settings(const AgentSettings& settings) {
  std::string text;
  write_json(encode(kAgentTable, &settings, discovery::Secrets::kReveal), text, discovery::JsonStyle::kCompact);
  return text;
}

base::Result<AgentSettings> parse_agent_settings(std::string_view json) {
  Findings findings;
  const Document document("agent settings", json);
  AgentSettings settings;
  if (const auto value = discovery::read_json(document, json, nullptr, findings)) {
    Decoder decoder(document, findings);
    decoder.table(kAgentTable, *value, &settings);
    finish_agent_settings(decoder, *value, settings);
  }
  if (findings.error_count() > 0) return std::unexpected(findings.to_error());
  return settings;
}

std::string show_config(const Config& config, Format format) {
  constexpr auto kHide = discovery::Secrets::kHide;
  Value root = Value::map();
  root.add("apiVersion", Value::string(std::string(kApiVersion)));
  root.add("agent", encode(kAgentTable, &config.agent, kHide));
  root.add("defaults", encode(discovery::kPolicyTable, &config.defaults, kHide));
  Value& services = root.add("services", Value::list());
  for (const model::ServicePtr& service : config.services) {
    services.items.push_back(encode_service(*service, kHide, discovery::Encode::kAll));
  }
  for (const FileReference& reference : config.files) {
    if (!reference.service) continue;
    Value service = encode_service(*reference.service, kHide, discovery::Encode::kAll);
    std::erase_if(service.items, [](const Value& item) { return item.key == "endpoints"; });
    service.add("file", Value::string(reference.path));
    services.items.push_back(std::move(service));
  }
  Value& files = root.add("files", Value::list());
  for (const FileReference& reference : config.files) {
    if (!reference.service) files.items.push_back(Value::string(reference.path));
  }
  Value& sources = root.add("sources", Value::list());
  for (const auto& source : config.sources) sources.items.push_back(encode_source(source, kHide));
  root.add("relay", encode(kRelayTable, &config.relay, kHide));
  std::string text;
  if (format == Format::kJson) {
    write_json(root, text);
    text += '\n';
  } else {
    write_yaml(root, text);
  }
  return text;
}

}  // namespace mesh::app
