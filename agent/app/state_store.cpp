// SPDX-License-Identifier: Apache-2.0
#include "app/state_store.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <utility>

#include "app/internal_source.hpp"
#include "base/fd.hpp"
#include "base/log.hpp"
#include "base/random.hpp"
#include "discovery/json_reader.hpp"
#include "discovery/service_keys.hpp"

namespace mesh::app {

using discovery::Decoder;
using discovery::Document;
using discovery::Findings;
using discovery::JsonStyle;
using discovery::ServiceDecoder;
using discovery::Value;

namespace {

constexpr int kVersion = 1;
constexpr std::size_t kMaxHeader = 512;
constexpr unsigned kMode = 0600;  // probe headers may hold credentials

std::string checksum_of(std::string_view payload) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(payload.data());
  return fmt::format("{:016x}", base::hash64({bytes, payload.size()}));
}

std::unexpected<base::Error> damaged(std::string why) {
  return base::fail(base::ErrorKind::kInvalid, "read the last good state: " + std::move(why),
                    "it is not used; the next good configuration replaces it");
}

template <typename T>
bool number_in(const Value& header, std::string_view key, T& out) {
  const Value* const value = header.find(key);
  if (value == nullptr) return false;
  const char* const end = value->text.data() + value->text.size();
  return std::from_chars(value->text.data(), end, out).ptr == end && !value->text.empty();
}

}  // namespace

std::string encode_state(const StateToSave& state, base::WallTime now) {
  std::string payload = "{\"agent\":" + encode_agent_settings(state.agent);
  Value sources = Value::list();
  for (const auto& source : state.sources) {
    sources.items.push_back(encode_source(source, discovery::Secrets::kReveal));
  }
  payload += ",\"sources\":";
  write_json(sources, payload, JsonStyle::kCompact);
  payload += ",\"services\":[";
  bool first = true;
  for (const auto& update : state.snapshot->updates) {
    if (update->status.name == kInternalSource) continue;
    for (const model::ServicePtr& service : update->services) {
      if (!std::exchange(first, false)) payload += ',';
      payload += '\n';
      Value element = Value::map();
      element.add("source", Value::string(service->source));
      element.add("origin", Value::string(service->origin));
      element.add("service", encode_service(*service, discovery::Secrets::kReveal));
      write_json(element, payload, JsonStyle::kCompact);
    }
  }
  payload += "\n]}\n";
  return fmt::format("{{\"meshd_state\":{},\"saved_at_ns\":{},\"saved_at\":\"{}\",\"bytes\":{},\"checksum\":\"{}\"}}\n",
                     kVersion, now.time_since_epoch().count(), base::format_rfc3339(now), payload.size(),
                     checksum_of(payload)) +
         payload;
}

base::Result<SavedState> decode_state(std::string_view content) {
  const std::size_t header_size = content.substr(0, kMaxHeader).find('\n');
  if (header_size == std::string_view::npos) return damaged("it has no header");
  Findings findings;
  const std::string_view header_text = content.substr(0, header_size);
  const auto header = discovery::read_json(Document("header", header_text), header_text, nullptr, findings);
  int version = 0;
  std::int64_t saved_at_ns = 0;
  std::size_t bytes = 0;
  if (findings.error_count() > 0 || !number_in(*header, "meshd_state", version))
    return damaged("its header is damaged");
  if (version != kVersion)
    return damaged("it has version " + std::to_string(version) + ", this program reads " + std::to_string(kVersion));
  const Value* const checksum = header->find("checksum");
  if (!number_in(*header, "saved_at_ns", saved_at_ns) || !number_in(*header, "bytes", bytes) || checksum == nullptr) {
    return damaged("its header is damaged");
  }
  const std::string_view payload = content.substr(header_size + 1);
  if (payload.size() != bytes) return damaged(fmt::format("it has {} bytes instead of {}", payload.size(), bytes));
  if (checksum_of(payload) != checksum->text) return damaged("its checksum is wrong");

  SavedState state;
  state.saved_at = base::WallTime{base::Duration{saved_at_ns}};
  const Document document("last-good.state", payload);
  Decoder decoder(document, findings);
  const discovery::ServicePolicy defaults;
  ServiceDecoder services(decoder, defaults, ServiceDecoder::FileKey::kRefused, "");
  Value sources = Value::list();
  const auto take = [&](std::string_view list, std::size_t, Value& element) {
    if (list == "sources") {
      sources.items.push_back(std::move(element));
      return;
    }
    const Value* const service = element.find("service");
    const Value* const source = element.find("source");
    const Value* const origin = element.find("origin");
    auto decoded =
        service != nullptr && source != nullptr && origin != nullptr ? services.service(*service) : std::nullopt;
    if (!decoded || decoded->services.size() != 1) {
      decoder.error(element, "not a service");
      return;
    }
    model::Service& one = decoded->services.front();
    one.source = source->text;
    one.origin = origin->text;
    state.services.push_back(std::make_shared<const model::Service>(std::move(one)));
  };
  const auto root = discovery::read_json(document, payload, take, findings);
  discovery::decode_sources(decoder, sources, defaults, state.sources);
  if (findings.error_count() > 0) return damaged(findings.to_error().message);
  const Value* const agent = root->find("agent");
  if (agent == nullptr) return damaged("it has no settings");
  std::string agent_text;
  write_json(*agent, agent_text, JsonStyle::kCompact);
  state.agent = MESH_TRY(parse_agent_settings(agent_text));
  return state;
}

std::string remedy_for_unsaved(const base::Error& error) {
  const std::string again =
      "; the agent tries again every " + std::to_string(SavePolicy::kRetryInterval.count()) + " s";
  switch (error.errnum) {
    case ENOSPC:
    case EDQUOT:
      return "make room on the file system of agent.state_dir" + again;
    case EACCES:
    case EPERM:
    case EROFS:
      return "let the agent write there (ReadWritePaths= or StateDirectory= of its unit), or name another "
             "agent.state_dir" +
             again;
    default:
      return "let agent.state_dir be a folder in which the agent can write" + again;
  }
}

void SavePolicy::note_change(base::TimePoint now) {
  if (!changed_at_) changed_at_ = now;
}

void SavePolicy::note_saved(base::TimePoint now, bool success) {
  not_before_ = now + (success ? kInterval : kRetryInterval);
  if (success) changed_at_.reset();
}

std::optional<base::TimePoint> SavePolicy::due() const {
  if (!changed_at_) return std::nullopt;
  return std::max(*changed_at_ + kSettle, not_before_);
}

StateStore::StateStore(const std::string& state_dir) : path_(path_in(state_dir)) {
  thread_ = std::thread([this] { run(); });
}

StateStore::~StateStore() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

std::string StateStore::path_in(const std::string& state_dir) { return state_dir + "/last-good.state"; }

base::Result<SavedState> StateStore::load(const std::string& state_dir) {
  const std::string content = MESH_TRY(base::read_file(path_in(state_dir), discovery::kMaxJsonBytes));
  return decode_state(content);
}

void StateStore::save(StateToSave state) {
  {
    const std::lock_guard lock(mutex_);
    pending_ = std::move(state);
    policy_.note_change(base::steady_now());
  }
  changed_.notify_one();
}

StateStore::Status StateStore::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

void StateStore::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    const auto due = policy_.due();
    if (!stopping_ && (!due || base::steady_now() < *due)) {
      if (due) {
        changed_.wait_until(lock, *due);
      } else {
        changed_.wait(lock);
      }
      continue;
    }
    if (!pending_) return;  // stopping, and all is saved
    const StateToSave pending = std::move(*pending_);
    pending_.reset();
    policy_.note_saved(base::steady_now(), true);  // a change during the write asks for the next one

    lock.unlock();
    const auto now = base::wall_now();
    const std::string content = encode_state(pending, now);
    std::error_code ignored;  // the write says what is wrong
    std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), ignored);
    const auto written = base::write_file_atomically(path_, content, kMode);
    if (!written) base::log::error("last good state not saved", {{"path", path_}, {"err", written.error()}});
    lock.lock();

    if (written) {
      if (status_.error) base::log::info("last good state saved again", {{"path", path_}});
      status_ = {now, content.size(), std::nullopt};
      continue;
    }
    status_.error = base::Error(written.error()).within("save the last good state");
    status_.error->remedy = remedy_for_unsaved(written.error());
    if (stopping_) return;
    if (!pending_) pending_ = pending;
    policy_.note_change(base::steady_now());
    policy_.note_saved(base::steady_now(), false);
  }
}

}  // namespace mesh::app
